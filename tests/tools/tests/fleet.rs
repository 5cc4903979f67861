//! The table in `docs/delivery.md` of what each strategy costs a fleet is what the command prints.

use std::fs;
use std::process::Command;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/delivery.md");
const BEGIN: &str = "<!-- begin of the fleet: UPDATE_DOCS=1 make test writes it -->\n";
const END: &str = "<!-- end of the fleet -->\n";

#[test]
fn documented_table_is_current() {
    let page = fs::read_to_string(PAGE).expect("docs/delivery.md");
    let (before, rest) = page.split_once(BEGIN).expect("docs/delivery.md marks where the table begins");
    let (table, after) = rest.split_once(END).expect("docs/delivery.md marks where the table ends");
    let ran = Command::new(env!("CARGO_BIN_EXE_lambda-sandbox")).arg("fleet").output().expect("it runs");
    let wanted = String::from_utf8(ran.stdout).expect("text");
    assert!(ran.status.success() && wanted.lines().count() > 10, "{wanted}");
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not a variable of the extension")]
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    if update {
        fs::write(PAGE, [before, BEGIN, "\n", &wanted, "\n", END, after].concat())
            .expect("docs/delivery.md can be written");
        return;
    }
    assert!(
        table.trim() == wanted.trim(),
        "docs/delivery.md does not have what `lambda-sandbox fleet` prints:\n{wanted}"
    );
}
