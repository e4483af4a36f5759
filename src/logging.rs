//! Log lines: into the log file, and for a person on standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use env_logger::{Builder, Logger, Target};
use log::{LevelFilter, Metadata, Record};
use rustix::fs::OFlags;
use serde_json::json;

use crate::config::{Log, LogFormat};

/// Starts logging. `verbosity` is that of the command line: -1 quiet, 0 as it comes, 1, 2.
///
/// With neither a terminal nor `-v`, nothing is written on standard error: under Wazuh such lines
/// become events or vanish. What keeps the log file from being
/// written is said on standard error, where anything is; `doctor` says it always.
pub(crate) fn start(settings: &Log, verbosity: i8) {
    let on_stderr = match verbosity {
        0 if io::stderr().is_terminal() => LevelFilter::Warn,
        ..=0 => LevelFilter::Off,
        1 => LevelFilter::Info,
        2.. => LevelFilter::Debug,
    };
    let mut loggers = vec![
        builder(on_stderr)
            .format(|out, record| writeln!(out, "{:5} {}", record.level(), line(record)))
            .build(),
    ];
    let mut trouble = None;
    if let Some(path) = &settings.file {
        match open(path) {
            Ok(file) => loggers.push(in_file(file, settings)),
            Err(error) => {
                trouble = Some(format!(
                    "{}: the log file cannot be written: {error}. Create its folder, or name another \
                     in [log] file (\"\" for none).",
                    path.display()
                ));
            }
        }
    }
    let level = loggers.iter().map(Logger::filter).max();
    log::set_max_level(level.unwrap_or(LevelFilter::Off));
    if log::set_boxed_logger(Box::new(All(loggers))).is_ok()
        && let Some(trouble) = trouble
    {
        log::warn!("{trouble}");
    }
}

/// The log file, to append to.
///
/// Whoever may enter the folder as a member of its group may read the log. A link in its place is not
/// followed: whoever can make one would choose which file of root's gets our lines and that group. A pipe
/// that nobody reads is an error: it would hold up every command for ever.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)?;
    if let Some(folder) = path.parent().and_then(|folder| folder.metadata().ok())
        && file.metadata()?.gid() != folder.gid()
    {
        // Another user than root can only give it to a group of its own: then it stays as it is.
        fchown(&file, None, Some(folder.gid())).ok();
    }
    Ok(file)
}

/// Libraries are left out: they may log what we never would, such as URLs with their query.
fn builder(level: LevelFilter) -> Builder {
    let mut builder = Builder::new();
    builder
        .filter_level(LevelFilter::Off)
        .filter_module("o365_wodle", level);
    builder
}

fn in_file(file: File, settings: &Log) -> Logger {
    let format = settings.format;
    builder(settings.level)
        .target(Target::Pipe(Box::new(file)))
        .format(move |out, record| {
            let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ");
            match format {
                LogFormat::Text => writeln!(out, "{now} {:5} {}", record.level(), line(record)),
                LogFormat::Json => {
                    let line = json!({
                        "time": now.to_string(),
                        "level": record.level().as_str(),
                        "message": line(record),
                    });
                    writeln!(out, "{line}")
                }
            }
        })
        .build()
}

/// A line is one line, and commands no terminal, whatever a server wrote into its message.
fn line(record: &Record<'_>) -> String {
    record.args().to_string().replace(char::is_control, " ")
}

/// Several loggers, each with its own level and format.
struct All(Vec<Logger>);

impl log::Log for All {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.iter().any(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        for logger in &self.0 {
            logger.log(record);
        }
    }

    fn flush(&self) {
        for logger in &self.0 {
            logger.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_end_its_line_nor_command_a_terminal() {
        let message = format_args!("content a\r\nb\u{1b}[2J\u{9b}2J\u{7f}é: gone");
        let record = Record::builder().args(message).build();
        assert_eq!(line(&record), "content a  b [2J 2J é: gone");
    }
}
