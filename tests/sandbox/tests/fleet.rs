//! README's table of what each strategy costs a fleet is what the command prints.

use std::fs;
use std::process::Command;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
const BEGIN: &str = "<!-- begin of the fleet: UPDATE_README=1 cargo test --package lambda-sandbox --test fleet writes it -->\n";
const END: &str = "<!-- end of the fleet -->\n";

#[test]
fn the_table_in_readme_is_what_the_command_prints() {
    let readme = fs::read_to_string(README).expect("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("README.md marks where the table begins");
    let (table, after) = rest.split_once(END).expect("README.md marks where the table ends");
    let ran = Command::new(env!("CARGO_BIN_EXE_lambda-sandbox")).arg("fleet").output().expect("it runs");
    let wanted = String::from_utf8(ran.stdout).expect("text");
    assert!(ran.status.success() && wanted.lines().count() > 10, "{wanted}");
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not a variable of the extension")]
    let update = std::env::var_os("UPDATE_README").is_some();
    if update {
        fs::write(README, [before, BEGIN, "\n", &wanted, "\n", END, after].concat())
            .expect("README.md can be written");
        return;
    }
    assert!(
        table.trim() == wanted.trim(),
        "README.md does not have what `lambda-sandbox fleet` prints:\n{wanted}"
    );
}
