//! Corrected parser tip for values that begin with a hyphen.

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// The parser takes such a value for an unknown option and advises `-- VALUE`, which makes it an operand. After an
/// option that takes a value, `--option=VALUE` is what works.
pub(super) fn correct(
    mut error: clap::Error,
    definition: &Command,
    words: &[String],
) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(rejected)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let before = words.windows(2).find(|pair| &pair[1] == rejected).map(|pair| pair[0].clone());
    let Some(option) = before.filter(|option| takes_value(definition, option)) else {
        return error;
    };
    let tip = format!("to pass '{rejected}' as the value of '{option}', use '{option}={rejected}'");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// Whether a command has this option, with a value.
fn takes_value(command: &Command, option: &str) -> bool {
    let is_it = |argument: &clap::Arg| {
        argument.get_long().is_some_and(|long| option.strip_prefix("--") == Some(long))
            && argument.get_action().takes_values()
    };
    command.get_arguments().any(is_it)
        || command.get_subcommands().any(|command| takes_value(command, option))
}
