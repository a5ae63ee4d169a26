//! What the server does in one step, in its own language. A script runs alone: nothing comes between its reads and its
//! writes. Each checks everything before it writes, and after the first write that a server out of memory or unable to
//! save could refuse there is none that can fail: so it happens as a whole or not at all.
//!
//! | Script | Keys | Arguments after the caller's time | Answers after the server's time |
//! |---|---|---|---|
//! | read | cuts, entries | `v` or `h` | per entry: nothing, or the frame (`h`: its head) and its length |
//! | commit | sequence, cuts, an entry per put and delete | `p`, condition, frame, expiry; `d`; `c`, scope | status, sequence |
//! | delete | cuts, entry | version that it must have, or nothing | status |
//! | touch | cuts, entry | expiry as in the frame, expiry | status |
//!
//! A version is the first bytes of a frame from its sequence number on: of that alone, or with the expiry that follows it, so
//! that a touch is a change, too.
//!
//! A status is 0 for absent, 1 for done, 2 for a condition that does not hold, 3 for a damaged entry. An expiry is
//! decimal milliseconds, or empty if the server is not to forget the entry by itself. Time is the later of the caller's
//! and the server's, so that both have the same opinion of what is over.

use redis::{Cmd, Connection, ErrorKind, RedisResult, ServerErrorKind, Value};

use crate::sync::OnceLock;

/// What the scripts have in common. Offsets count from 1, as they do in Lua; see `frame` for what stands there.
macro_rules! with_prelude {
    ($script:literal) => {
        concat!(
            r#"
local time = redis.call('TIME')
local server_now = time[1] * 1000 + math.floor(time[2] / 1000)
local now = math.max(server_now, tonumber(ARGV[1]))

local function number(frame, at, count)
  local value = 0
  for i = at + count - 1, at, -1 do value = value * 256 + string.byte(frame, i) end
  return value
end

local function bytes_of(value)
  local bytes = {}
  for i = 1, 8 do
    bytes[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(bytes)
end

local function parse(frame)
  if #frame < 41 or string.sub(frame, 1, 2) ~= 't\1' then return nil end
  local entry = { sequence = string.sub(frame, 3, 10), scopes = {} }
  if string.byte(frame, 11) ~= 0 then entry.expires_at = number(frame, 12, 8) end
  local at = 42
  for i = 1, number(frame, 26, 2) do
    local length = string.byte(frame, at)
    if not length or at + length > #frame then return nil end
    entry.scopes[i] = string.sub(frame, at + 1, at + length)
    at = at + 1 + length
  end
  for _ = 1, number(frame, 28, 2) do
    local length = string.byte(frame, at + 1)
    if not length or at + 1 + length > #frame then return nil end
    at = at + 2 + length
  end
  if at - 1 + number(frame, 30, 4) ~= #frame then return nil end
  entry.head_bytes = at - 1
  return entry
end

-- The bytes under a key and what they mean; nothing for no key, and no meaning for what is not an entry.
local function look(key)
  local frame = redis.pcall('GET', key)
  if not frame then return nil, nil end
  if type(frame) == 'table' then return '', nil end
  return frame, parse(frame)
end

-- Whether the frame has this version: its sequence number, and its expiry if that is compared, too.
local function is_version(frame, version)
  return string.sub(frame, 3, 2 + #version) == version
end

local function is_alive(entry, cuts)
  if entry.expires_at and entry.expires_at <= now then return false end
  local sequence = number(entry.sequence, 1, 8)
  for _, scope in ipairs(entry.scopes) do
    local cut = redis.call('HGET', cuts, scope)
    if cut and sequence < tonumber(cut) then return false end
  end
  return true
end

-- The first number is the time in microseconds, so that those given before a server forgot everything do not come again:
-- no server gives one in less than that.
local function next_sequence(key)
  local sequence = redis.call('INCR', key)
  if sequence == 1 then
    sequence = time[1] * 1000000 + time[2]
    redis.call('SET', key, string.format('%.0f', sequence))
  end
  return sequence
end

-- What to answer if the condition does not hold: 'a' is absence, anything else the version it must have.
local function refusal(key, cuts, condition)
  if condition == '' then return nil end
  local frame, entry = look(key)
  if frame and not entry then return { server_now, 3 } end
  local found = entry and is_alive(entry, cuts) and entry.sequence
  if condition == 'a' then
    if found then return { server_now, 2, found } end
  elseif not found or not is_version(frame, condition) then
    return { server_now, 2, found }
  end
  return nil
end

local function is_over(expiry)
  return expiry ~= '' and tonumber(expiry) <= now
end
"#,
            $script
        )
    };
}

/// Shows entries. What was cut off or has expired is removed on the way, if the server allows it.
pub(super) static READ: Script = Script::new(with_prelude!(
    r"
local answer = { server_now }
for i = 2, #KEYS do
  local frame, entry = look(KEYS[i])
  if entry and not is_alive(entry, KEYS[1]) then
    redis.pcall('DEL', KEYS[i])
    frame = nil
  end
  if not frame then
    answer[i] = false
  elseif entry and ARGV[2] == 'h' then
    answer[i] = { string.sub(frame, 1, entry.head_bytes), #frame }
  else
    answer[i] = { frame, #frame }
  end
end
return answer
"
));

/// Puts, deletes and cuts together. Conditions are about what was there before all of it.
pub(super) static COMMIT: Script = Script::new(with_prelude!(
    r"
local sequence_key, cuts = KEYS[1], KEYS[2]
local at, k = 2, 3
while at <= #ARGV do
  if ARGV[at] == 'p' then
    local refused = refusal(KEYS[k], cuts, ARGV[at + 1])
    if refused then return refused end
    at, k = at + 4, k + 1
  elseif ARGV[at] == 'd' then
    at, k = at + 1, k + 1
  else
    at = at + 2
  end
end
at, k = 2, 3
local sequence
while at <= #ARGV do
  if ARGV[at] ~= 'd' then sequence = next_sequence(sequence_key) end
  if ARGV[at] == 'p' then
    local frame, expiry = ARGV[at + 2], ARGV[at + 3]
    if is_over(expiry) then
      redis.call('DEL', KEYS[k])
    else
      redis.call('SET', KEYS[k], 't\1' .. bytes_of(sequence) .. frame)
      if expiry ~= '' then redis.call('PEXPIREAT', KEYS[k], expiry) end
    end
    at, k = at + 4, k + 1
  elseif ARGV[at] == 'd' then
    redis.call('DEL', KEYS[k])
    at, k = at + 1, k + 1
  else
    redis.call('HSET', cuts, ARGV[at + 1], string.format('%.0f', sequence))
    at = at + 2
  end
end
return { server_now, 1, sequence and bytes_of(sequence) }
"
));

/// Deletes one entry and says whether it was there; damaged ones were. It takes no sequence number: a server that is
/// out of memory gives none, and deletes all the same.
pub(super) static DELETE: Script = Script::new(with_prelude!(
    r"
local frame, entry = look(KEYS[2])
if not frame then return { server_now, 0 } end
local was_there = not entry or is_alive(entry, KEYS[1])
if ARGV[2] ~= '' then
  if not entry then return { server_now, 3 } end
  if not was_there or not is_version(frame, ARGV[2]) then return { server_now, 0 } end
end
redis.call('DEL', KEYS[2])
return { server_now, was_there and 1 or 0 }
"
));

/// Gives one entry another expiry.
pub(super) static TOUCH: Script = Script::new(with_prelude!(
    r"
local frame, entry = look(KEYS[2])
if not frame then return { server_now, 0 } end
if not entry then return { server_now, 3 } end
if not is_alive(entry, KEYS[1]) then
  redis.call('DEL', KEYS[2])
  return { server_now, 0 }
end
if is_over(ARGV[3]) then
  redis.call('DEL', KEYS[2])
  return { server_now, 1 }
end
redis.call('SETRANGE', KEYS[2], 10, ARGV[2])
if ARGV[3] == '' then
  redis.call('PERSIST', KEYS[2])
else
  redis.call('PEXPIREAT', KEYS[2], ARGV[3])
end
return { server_now, 1 }
"
));

/// One script, and the name that servers give it.
pub(super) struct Script {
    text: &'static str,
    name: OnceLock<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self { text, name: OnceLock::new() }
    }

    /// Runs it, by its name if the server knows it.
    pub(super) fn run(
        &self,
        connection: &mut Connection,
        keys: &[Vec<u8>],
        arguments: &[Vec<u8>],
    ) -> RedisResult<Value> {
        let call = |command: &str, script: &str| {
            let mut command = redis::cmd(command);
            command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        let name = match self.name.get() {
            Some(name) => name,
            None => {
                let name = redis::cmd("SCRIPT").arg("LOAD").arg(self.text).query(connection)?;
                self.name.get_or_init(|| name)
            }
        };
        let answer = Cmd::query(&call("EVALSHA", name), connection);
        match answer {
            // It was not run: the server was started anew.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                call("EVAL", self.text).query(connection)
            }
            answer => answer,
        }
    }
}
