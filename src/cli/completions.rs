//! `portcullis completions` and `portcullis man`: generated from the definition of the command
//! line, so that they cannot tell anything else.

use std::io::{self, ErrorKind, Write};

use clap::{Args, Command};
use clap_complete::Shell;

use super::Stop;
use crate::exit;

/// The arguments of `portcullis completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell to complete in
    pub shell: Shell,
}

/// The arguments of `portcullis man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The page of this verb instead of the program's own
    pub verb: Option<String>,
}

/// Writes the completion script to standard output; returns the exit code.
#[must_use]
pub fn completions(args: &CompletionsArgs, mut command: Command) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "portcullis", &mut script);
    write(&script)
}

/// Writes a manual page (roff, section 1) to standard output; returns the exit code.
#[must_use]
pub fn man(args: &ManArgs, command: Command) -> u8 {
    match page(args.verb.as_deref(), command) {
        Ok(page) => write(&page),
        Err(stop) => stop.tell(),
    }
}

/// A manual page: of this verb, or the program's own.
pub(super) fn page(verb: Option<&str>, mut command: Command) -> Result<Vec<u8>, Stop> {
    // Gives the verbs their full names, under which man finds their pages: portcullis-up(1).
    command.build();
    let command = match verb {
        None => command,
        Some(verb) => command.find_subcommand(verb).cloned().ok_or_else(|| Stop {
            code: exit::USAGE,
            text: format!("there is no verb \"{verb}\"; portcullis --help lists them"),
        })?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(|error| Stop {
        code: exit::FAILED,
        text: format!("cannot write the manual page: {error}"),
    })?;
    Ok(page)
}

/// A reader that has seen enough (`| head`) is no failure.
fn write(text: &[u8]) -> u8 {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => exit::FAILED,
        _ => exit::OK,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_verb_has_a_manual_page() {
        let command = Cli::command();
        for verb in command.get_subcommands() {
            let page = page(Some(verb.get_name()), command.clone()).unwrap();
            let page = String::from_utf8(page).unwrap();
            assert!(page.contains(&format!(".TH portcullis-{} 1", verb.get_name())), "{page}");
        }
        let whole = String::from_utf8(page(None, command).unwrap()).unwrap();
        assert!(whole.contains(".TH portcullis 1"), "{whole}");
    }

    #[test]
    fn an_unknown_verb_has_no_page() {
        assert_eq!(page(Some("fly"), Cli::command()).unwrap_err().code, exit::USAGE);
    }

    #[test]
    fn every_shell_completes_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            let mut command = Cli::command();
            let verbs: Vec<_> =
                command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
            clap_complete::generate(shell, &mut command, "portcullis", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(verbs.iter().all(|verb| script.contains(verb.as_str())), "{shell}");
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
