//! What `--help` says, as tables.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::markdown::cell;

/// Columns at which clap begins an option and the text below it.
const OPTION_COLUMN: usize = 6;
const TEXT_COLUMN: usize = 10;

/// What one command says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Help {
    pub about: String,
    /// Commands below it, without `help`.
    pub commands: Vec<String>,
    /// Its flags, in their order.
    pub flags: Vec<Flag>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flag {
    /// Heading it stands under; `Options` without one of its own.
    pub heading: String,
    /// `--name`.
    pub name: String,
    /// What it takes: `FILE`; "" for a switch.
    pub value: String,
    pub text: String,
    /// Values and what each means.
    pub values: Vec<String>,
    pub env: String,
    pub default: Option<String>,
    /// Whether the command cannot do without it.
    pub required: bool,
}

// === impl Help ===

impl Help {
    /// Reads the text of `--help`, as clap writes it.
    pub fn parse(text: &str) -> Self {
        let mut help = Self::default();
        let mut heading = String::new();
        let mut usage = String::new();
        let mut lines = Vec::new();
        for line in text.lines().chain([""]) {
            let indent = line.len() - line.trim_start().len();
            let word = line.trim();
            if help.about.is_empty() && !word.is_empty() {
                help.about = first_sentence(text);
            }
            if let Some(rest) = line.strip_prefix("Usage: ") {
                rest.clone_into(&mut usage);
                "Usage".clone_into(&mut heading);
            } else if indent == 0 && word.ends_with(':') && !heading.is_empty() {
                word.trim_end_matches(':').clone_into(&mut heading);
            } else if heading == "Usage" {
                usage.push(' ');
                usage.push_str(word);
            } else if heading == "Commands" {
                let name = word.split_whitespace().next().unwrap_or_default();
                if indent == 2 && name != "help" {
                    help.commands.push(name.to_owned());
                }
            } else if !heading.is_empty() && (word.starts_with('-') && indent <= OPTION_COLUMN) {
                finish(&mut help.flags, &mut lines);
                let (flag, text) = Flag::named(&heading, word);
                help.flags.push(flag);
                lines.push(text);
            } else {
                lines.push(line);
            }
        }
        finish(&mut help.flags, &mut lines);
        help.flags
            .retain(|flag| flag.name != "--help" && flag.name != "--version");
        for flag in &mut help.flags {
            let name = flag.name.as_str();
            flag.required = usage.split_whitespace().any(|word| word == name);
        }
        help
    }
}

// === impl Flag ===

impl Flag {
    /// What a line says that begins a flag; its text may begin there too.
    fn named<'a>(heading: &str, line: &'a str) -> (Self, &'a str) {
        let (spec, text) = line.split_once("  ").unwrap_or((line, ""));
        let spec = spec.trim_end_matches("...");
        let long = spec.find("--").map_or(spec, |at| &spec[at..]);
        let end = long.find([' ', '[', '=', '.']).unwrap_or(long.len());
        let value = long
            .split_once('<')
            .and_then(|(_, rest)| rest.rsplit_once('>'));
        let flag = Self {
            heading: heading.to_owned(),
            name: long[..end].to_owned(),
            value: value.map_or("", |(value, _)| value).to_owned(),
            ..Self::default()
        };
        (flag, text.trim())
    }

    /// Takes the last of `[env: …]`, `[default: …]` and `[possible values: …]` from the end of the
    /// text.
    fn take_bracket(&mut self) -> bool {
        const OPENINGS: [&str; 3] = ["[env: ", "[default: ", "[possible values: "];
        let last = OPENINGS
            .iter()
            .filter_map(|opening| Some((self.text.rfind(opening)?, *opening)));
        let Some((at, opening)) = last.max() else {
            return false;
        };
        let Some(inside) = self.text[at + opening.len()..].strip_suffix(']') else {
            return false;
        };
        match opening {
            "[env: " => inside
                .split('=')
                .next()
                .unwrap_or_default()
                .clone_into(&mut self.env),
            "[default: " => self.default = Some(inside.to_owned()),
            _ => {
                let values = inside.split(", ").map(|value| format!("`{value}`"));
                self.values = values.collect();
            }
        }
        self.text.truncate(at);
        self.text.truncate(self.text.trim_end().len());
        true
    }

    /// One row of the table.
    fn row(&self) -> String {
        let mut flag = format!("`{}", self.name);
        if !self.value.is_empty() {
            flag.push(' ');
            flag.push_str(&self.value);
        }
        flag.push('`');
        let env = match self.env.as_str() {
            "" => String::new(),
            env => format!("`{env}`"),
        };
        let default = match self.default.as_deref() {
            _ if self.required => "required".to_owned(),
            None | Some("\"\"" | "") => String::new(),
            Some(value) => format!("`{value}`"),
        };
        let mut meaning = self.text.clone();
        if !meaning.is_empty() && !meaning.ends_with('.') {
            meaning.push('.');
        }
        if !self.values.is_empty() {
            let _ = write!(meaning, " Values: {}.", self.values.join("; "));
        }
        format!(
            "| {} | {} | {} | {} |\n",
            cell(&flag),
            cell(&env),
            cell(&default),
            cell(&meaning)
        )
    }
}

/// Gives the lines below a flag to the last one.
fn finish(flags: &mut [Flag], lines: &mut Vec<&str>) {
    let lines = std::mem::take(lines);
    let Some(flag) = flags.last_mut() else {
        return;
    };
    let mut text: Vec<&str> = Vec::new();
    let mut listing = false;
    for line in lines {
        let indent = line.len() - line.trim_start().len();
        let word = line.trim();
        if word.is_empty() {
            // The list of values ends with its paragraph.
            listing &= flag.values.is_empty();
        } else if word == "Possible values:" {
            listing = true;
        } else if listing && word.starts_with("- ") && indent == TEXT_COLUMN {
            let (value, meaning) = word[2..].split_once(':').unwrap_or((&word[2..], ""));
            let meaning = meaning.trim();
            flag.values.push(match meaning {
                "" => format!("`{value}`"),
                _ => format!("`{value}`: {meaning}"),
            });
        } else if let (true, Some(last)) = (listing, flag.values.last_mut()) {
            last.push(' ');
            last.push_str(word);
        } else {
            text.push(word);
        }
    }
    flag.text = text.join(" ");
    while flag.take_bracket() {}
}

fn first_sentence(text: &str) -> String {
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty());
    let text = paragraph.map(str::trim).collect::<Vec<_>>().join(" ");
    match text.as_str() {
        "" => text,
        _ if text.ends_with('.') => text,
        _ => format!("{text}."),
    }
}

/// The tables of a program: one for each command, by heading. What an earlier command has word for
/// word is only named.
pub fn render(commands: &[(String, Help)]) -> String {
    let mut out = String::new();
    let mut known: Vec<(&str, &Flag)> = Vec::new();
    for (command, help) in commands {
        if help.flags.is_empty() {
            continue;
        }
        let _ = write!(out, "\n### `{command}`\n\n{}\n", help.about);
        let earlier = |flag: &Flag| known.iter().find(|(_, other)| *other == flag);
        let same: Vec<_> = help
            .flags
            .iter()
            .filter_map(|flag| Some((earlier(flag)?.0, flag)))
            .collect();
        let sources: BTreeSet<_> = same.iter().map(|(source, _)| *source).collect();
        for source in sources {
            let names = same.iter().filter(|(from, _)| *from == source);
            let names: Vec<_> = names.map(|(_, flag)| format!("`{}`", flag.name)).collect();
            let _ = write!(out, "\nAs of `{source}`: {}.\n", names.join(", "));
        }
        let mut heading = "";
        for flag in help.flags.iter().filter(|flag| earlier(flag).is_none()) {
            if flag.heading != heading {
                heading = &flag.heading;
                if heading != "Options" {
                    let _ = write!(out, "\n{heading}:\n");
                }
                out.push_str("\n| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n");
            }
            out.push_str(&flag.row());
        }
        known.extend(help.flags.iter().map(|flag| (command.as_str(), flag)));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests;
