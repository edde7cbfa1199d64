//! The command line of `cargo next`.

use std::ops::RangeInclusive;

use clap::{Arg, ArgAction, Command};
use harness::Stage;

/// The options of the command line.
pub(crate) struct Options {
    /// The numbers of the first and the last stage. `None` means all stages.
    stages: Option<RangeInclusive<usize>>,
    /// Whether to run again when a file of the server changes.
    pub(crate) watch: bool,
}

impl Options {
    /// Reads the command line. Ends the program if an argument is not valid, or if the user asks for help.
    pub(crate) fn from_command_line() -> Options {
        let stages = Arg::new("stages")
            .value_name("STAGES")
            .value_parser(parse_stages)
            .help("The stage to begin with, such as 10, or a range of stages, such as 3-5");
        let watch = Arg::new("watch")
            .long("watch")
            .action(ArgAction::SetTrue)
            .help("Run again whenever a file of your server changes, until you press Ctrl-C");
        let about = "Runs the checks of the stages in order until one fails, and says what to do next.\n\
                     \n\
                     Your server is the command in the environment variable SERVER, or else the package in \
                     stages/mine.";
        let command = Command::new("next").bin_name("cargo next").about(about);
        let matches = command.args([stages, watch]).get_matches();
        Options { stages: matches.get_one("stages").cloned(), watch: matches.get_flag("watch") }
    }

    /// The stage to begin with, if the user has named one.
    pub(crate) fn first<'s>(&self, stages: &'s [Stage]) -> Option<&'s Stage> {
        self.stages.as_ref().map(|range| &stages[range.start() - 1])
    }

    /// The stages to be run.
    pub(crate) fn chosen<'s>(&self, stages: &'s [Stage]) -> &'s [Stage] {
        match &self.stages {
            Some(range) => &stages[range.start() - 1..*range.end()],
            None => stages,
        }
    }
}

/// Parses a number such as `10`, which means the stages from 10 to the last, or a range such as `3-5`.
fn parse_stages(text: &str) -> Result<RangeInclusive<usize>, String> {
    let last = Stage::all().len();
    let (from, to) = text.split_once('-').map_or((text, None), |(from, to)| (from, Some(to)));
    let number = |text: &str| text.parse().ok().filter(|number| (1..=last).contains(number));
    let range = number(from).zip(to.map_or(Some(last), number));
    match range {
        Some((from, to)) if from <= to => Ok(from..=to),
        _ => Err(format!("a stage is a number from 1 to {last}, and 3-5 means stages 3 to 5")),
    }
}
