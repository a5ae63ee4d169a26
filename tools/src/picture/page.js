(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("tierce-data").textContent);
  var tip = document.getElementById("tip");
  if (!data.map) return;
  var PITCH_X = 10, PITCH_Y = 16, COLUMNS = 32;
  function bytes(n) {
    var names = ["B", "KiB", "MiB", "GiB", "TiB"], at = 0;
    while (n >= 1024 && at + 1 < names.length) { n /= 1024; at += 1; }
    return (at ? Math.floor(n * 10) / 10 : n) + " " + names[at];
  }
  function cellAt(svg, event) {
    var box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal, scale = view.width / box.width;
    var x = (event.clientX - box.left) * scale - 1, y = (event.clientY - box.top) * scale - 1;
    var column = Math.min(Math.max(Math.floor(x / PITCH_X), 0), COLUMNS - 1);
    return Math.max(Math.floor(y / PITCH_Y), 0) * COLUMNS + column;
  }
  function say(svg, event) {
    var segment = data.map.segments[Number(svg.dataset.at)], at = cellAt(svg, event);
    var cell = segment && segment.cells[at];
    if (!cell) { tip.hidden = true; return; }
    var from = at * data.map.cell_bytes, lines = [], sum = 0;
    for (var k = 0; k < cell.length; k += 1) {
      sum += cell[k];
      if (cell[k] > 0) lines.push(data.map.kinds[k] + ": " + bytes(cell[k]));
    }
    tip.textContent = "segment " + segment.id + (segment.sealed ? "" : " (open)") + "\n" +
      "bytes " + from.toLocaleString("en") + " to " + (from + sum).toLocaleString("en") + "\n" + lines.join("\n");
    tip.hidden = false;
    var left = Math.min(event.pageX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = Math.max(left, 4) + "px";
    tip.style.top = event.pageY + 18 + "px";
  }
  Array.prototype.forEach.call(document.querySelectorAll("svg[data-at]"), function (svg) {
    // The system's own hover text would stand beside this one; readers of the screen still have a name.
    var title = svg.querySelector("title");
    if (title) { svg.setAttribute("aria-label", title.textContent); title.remove(); }
    svg.addEventListener("pointermove", function (event) { say(svg, event); });
    svg.addEventListener("pointerdown", function (event) { say(svg, event); });
    svg.addEventListener("pointerleave", function () { tip.hidden = true; });
  });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") tip.hidden = true; });
})();
