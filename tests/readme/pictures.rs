//! The pictures of the documents are readable on white and on dark pages.

use std::fs;

/// Pages of GitHub, light and dark.
const PAGES: [&str; 2] = ["ffffff", "0d1117"];
/// The least contrast of graphics in WCAG 2.
const LEAST: f64 = 3.0;

#[test]
fn colours_contrast_with_light_and_dark_pages() {
    let mut count = 0;
    for entry in fs::read_dir("docs").expect("docs") {
        let path = entry.expect("an entry of docs").path();
        if path.extension().is_none_or(|extension| extension != "svg") {
            continue;
        }
        let svg = fs::read_to_string(&path).expect("a picture");
        for color in svg.split('#').skip(1).filter_map(|rest| rest.get(..6)) {
            let Some(luminance) = luminance(color) else { continue };
            count += 1;
            for page in PAGES {
                let contrast = contrast(luminance, self::luminance(page).expect("a colour"));
                assert!(contrast >= LEAST, "{}: #{color} on #{page} has {contrast:.2}", path.display());
            }
        }
        assert!(!svg.contains("=\"black\"") && !svg.contains("=\"white\""), "{}", path.display());
    }
    assert!(count > 10, "{count} colours");
}

fn contrast(one: f64, other: f64) -> f64 {
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// The relative luminance of a colour in hexadecimal digits.
fn luminance(color: &str) -> Option<f64> {
    let channel = |at: usize| {
        let value = u8::from_str_radix(color.get(at..at + 2)?, 16).ok()?;
        let value = f64::from(value) / 255.0;
        Some(if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) })
    };
    Some(0.2126 * channel(0)? + 0.7152 * channel(2)? + 0.0722 * channel(4)?)
}
