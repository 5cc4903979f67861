//! README's configuration reference is what the table of variables says.

use std::fs;

use rotel_lambda_extension::core::config;

const BEGIN: &str =
    "<!-- begin of the configuration reference: UPDATE_README=1 cargo test --test readme writes it -->\n";
const END: &str = "<!-- end of the configuration reference -->\n";

#[test]
fn the_configuration_reference_is_the_table_of_variables() {
    let readme = fs::read_to_string("README.md").expect("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("README.md marks where the reference begins");
    let (reference, after) = rest.split_once(END).expect("README.md marks where the reference ends");
    let wanted = format!("\n{}\n", config::reference());
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not a variable of the extension")]
    let update = std::env::var_os("UPDATE_README").is_some();
    if update {
        fs::write("README.md", [before, BEGIN, &wanted, END, after].concat())
            .expect("README.md can be written");
        return;
    }
    assert!(
        reference == wanted,
        "README.md and the table of variables differ; UPDATE_README=1 cargo test --test readme writes this:\n{wanted}"
    );
}
