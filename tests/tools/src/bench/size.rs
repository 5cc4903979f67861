//! The size of the download at every cold start.

use std::io::{self, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::BenchError;
use super::figure::{Unit, millions};
use super::subject::Subject;
use super::table::{Cell, Row};

/// Binary and zip; `layer` is the zip that is published of ours.
pub(crate) fn rows(subjects: &[Subject], layer: Option<&Path>) -> Result<Vec<Row>, BenchError> {
    let (mut binaries, mut zips, mut layers) = (Vec::new(), Vec::new(), Vec::new());
    for (number, subject) in subjects.iter().enumerate() {
        let file = |source| BenchError::File { path: subject.path.clone(), source };
        let binary = std::fs::read(&subject.path).map_err(file)?;
        binaries.push(Cell::of(vec![millions(binary.len() as u64)], ""));
        zips.push(Cell::of(vec![millions(deflated(&binary).map_err(file)?)], ""));
        layers.push(match layer {
            Some(path) if number == 0 => {
                let zip = |source| BenchError::File { path: path.to_owned(), source };
                Cell::of(vec![millions(std::fs::metadata(path).map_err(zip)?.len())], "")
            }
            _ if number == 0 => Cell::Unmeasured("not measured: `make layer` has made none".to_owned()),
            _ => Cell::Unmeasured("–".to_owned()),
        });
    }
    Ok(vec![
        Row::new("the binary", Unit::Megabytes, binaries),
        Row::new("the binary, deflated as zips are", Unit::Megabytes, zips),
        Row::new("the layer's zip", Unit::Megabytes, layers).at_most(3.5),
    ])
}

fn deflated(bytes: &[u8]) -> io::Result<u64> {
    let mut encoder = DeflateEncoder::new(io::sink(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.try_finish()?;
    Ok(encoder.total_out())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitive_bytes_compress_well() {
        assert!(deflated(&vec![7; 100_000]).unwrap() < 1_000);
    }
}
