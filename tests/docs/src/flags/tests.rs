//! Everything that clap may say of a flag.

use super::*;

const HELP: &str = "Run it.

More about it.

Usage: x serve [OPTIONS] --upstream <URL>
       --other <O>

Options:
      --standalone
          Without a cluster,
          all alone
          
          [env: X_STANDALONE=]

  -u, --upstream <URL>
          Where from
          
          [env: X_UPSTREAM=]

In a cluster:
      --mode <MODE>
          How

          Possible values:
          - fast:  Without a
                   pause
          - slow
          
          [env: X_MODE=]
          [default: fast]

      --level <LEVEL>
          Which [default: 1] [possible values: 1, 2]

  -h, --help
          Print help
";

/// Name, value, text over lines, heading, values, environment, default, whether it is required.
#[test]
fn reads_what_clap_writes() {
    let help = Help::parse(HELP);
    assert_eq!(help.about, "Run it.");
    let names: Vec<_> = help.flags.iter().map(|flag| flag.name.as_str()).collect();
    assert_eq!(names, ["--standalone", "--upstream", "--mode", "--level"]);
    let standalone = &help.flags[0];
    assert_eq!(standalone.text, "Without a cluster, all alone");
    assert_eq!(standalone.env, "X_STANDALONE");
    assert!(!standalone.required && help.flags[1].required);
    let mode = &help.flags[2];
    assert_eq!(mode.heading, "In a cluster");
    assert_eq!(mode.values, ["`fast`: Without a pause", "`slow`"]);
    assert_eq!(mode.default.as_deref(), Some("fast"));
    assert_eq!(mode.value, "MODE");
}

/// Commands are found, and `help` is none.
#[test]
fn reads_commands() {
    let text = "About\n\nUsage: x <COMMAND>\n\nCommands:\n  serve  Run\n         on\n  help   Print\n\nOptions:\n  -h, --help  Print\n";
    let help = Help::parse(text);
    assert_eq!(help.commands, ["serve"]);
    assert!(help.flags.is_empty());
}

/// A flag that an earlier command has word for word is named, not repeated.
#[test]
fn names_what_was_there_before() {
    let help = Help::parse(HELP);
    let out = render(&[
        ("x serve".to_owned(), help.clone()),
        ("x check".to_owned(), help),
    ]);
    assert_eq!(out.matches("| `--standalone` |").count(), 1);
    assert!(out.contains("As of `x serve`: `--standalone`, `--upstream`"));
    assert!(out.contains("| `--upstream URL` | `X_UPSTREAM` | required | Where from. |"));
    assert!(out.contains("\nIn a cluster:\n"));
}

/// Where no flag has a long text, clap puts texts beside the flags, and what it adds behind them.
#[test]
fn reads_the_short_form() {
    let text = "About

Usage: x [OPTIONS] --image <IMAGE>

Options:
      --image <IMAGE>        Image with
                             all of it [env: X_IMAGE=]
      --listen <LISTEN>      Where [env: X_LISTEN=] [default: [::]:1]
      --form[=<FORM>]        How [default: mine, else none]. Not twice [possible values: a, b]
  -h, --help                 Print help
";
    let flags = Help::parse(text).flags;
    let [image, listen, form] = flags.as_slice() else {
        panic!("{flags:?}");
    };
    assert_eq!(
        (image.text.as_str(), image.env.as_str()),
        ("Image with all of it", "X_IMAGE")
    );
    assert!(image.required);
    assert_eq!(listen.default.as_deref(), Some("[::]:1"));
    assert_eq!(
        (listen.name.as_str(), listen.value.as_str()),
        ("--listen", "LISTEN")
    );
    assert_eq!(
        (form.name.as_str(), form.value.as_str()),
        ("--form", "FORM")
    );
    assert_eq!(form.text, "How [default: mine, else none]. Not twice");
    assert_eq!(form.values, ["`a`", "`b`"]);
}
