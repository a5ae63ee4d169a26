//! What is made from the definition of the command line: `completions`, `man`.

use std::{fs, path::Path};

use clap_complete::Shell;
use clap_mangen::Man;

use crate::{
    args::definition,
    escape::one_line,
    exit::{Code, Fail, Outcome},
    out::Out,
};

/// Prints the completions for a shell.
pub(crate) fn completions(shell: Shell, out: &mut Out) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), "tierce", &mut script);
    out.bytes(&script)?;
    Ok(Code::Done)
}

/// Writes one manual page for the tool and one for each command into a directory.
pub(crate) fn man(dir: &Path, json: bool, out: &mut Out) -> Outcome {
    let failed = |what: &str, path: &Path| {
        let what = format!("{what} {}", path.display());
        move |source| Fail::io(what, source)
    };
    fs::create_dir_all(dir).map_err(failed("create", dir))?;
    let mut tool = definition();
    // Only a built command knows which options it inherits.
    tool.build();
    let mut pages = vec![("tierce".to_owned(), tool.clone())];
    let shown = tool
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help");
    pages.extend(shown.map(|command| (format!("tierce-{}", command.get_name()), command.clone())));
    let mut files = Vec::new();
    for (name, command) in pages {
        let path = dir.join(format!("{name}.1"));
        let command = command.name(name).version(env!("CARGO_PKG_VERSION"));
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(failed("make", &path))?;
        fs::write(&path, page).map_err(failed("write", &path))?;
        files.push(path.display().to_string());
    }
    if json {
        out.json(&serde_json::json!({ "files": files }))?;
    } else {
        out.line(one_line(&format!("{} pages in {}", files.len(), dir.display())))?;
    }
    Ok(Code::Done)
}
