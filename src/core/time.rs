//! Timestamps in log records, in text or as numbers, in nanoseconds since the epoch.
//!
//! One hand-written parser for all the formats that loggers use, because it runs for every record: RFC 3339,
//! and the same with a space, with `/` in the date, with a comma before the fraction, or without a zone.

use std::ops::Range;

const SECOND: u64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND.cast_signed();
const DAY: u64 = 86_400 * SECOND;
/// The most that a record's time may be ahead of the platform's: clocks differ, and lines are delivered late.
const MAX_AHEAD: u64 = 600 * SECOND;
/// Time zones differ from UTC by multiples of this.
const ZONE_STEP: i64 = 15 * MINUTE;
/// The largest difference from UTC that a time zone has.
const MAX_ZONE: i64 = 14 * 60 * MINUTE;

/// A time as written in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoggedTime {
    nanos: u64,
    has_no_zone: bool,
    /// It has no fraction of a second.
    whole_seconds: bool,
}

impl LoggedTime {
    /// Returns the actual time, in nanoseconds since the epoch. `platform` is the platform's timestamp of the
    /// record. Returns `None` for a time that is far from it: that is part of the data, such as the time of an event.
    ///
    /// ClickStack deletes records by their time, so one dated years back would be gone at once.
    ///
    /// A time without a fraction is less precise than a platform time within the same second, and would put the
    /// lines of that second out of order. So the platform time wins there.
    pub(crate) fn resolve(self, platform: u64) -> Option<u64> {
        let nanos = if self.has_no_zone { to_utc(self.nanos, platform) } else { self.nanos };
        let second = nanos..nanos.saturating_add(SECOND);
        let is_near = nanos.saturating_add(DAY) >= platform && nanos <= platform.saturating_add(MAX_AHEAD);
        is_near.then(|| if self.whole_seconds && second.contains(&platform) { platform } else { nanos })
    }

    /// The time as it is written, in nanoseconds since the epoch.
    pub(crate) fn nanos(self) -> u64 {
        self.nanos
    }

    /// Adds the nanoseconds of the second, which are written apart.
    pub(crate) fn with_nanos(self, nanos: i64) -> Self {
        let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos < SECOND);
        match nanos {
            Some(nanos) => Self { nanos: self.nanos.saturating_add(nanos), whole_seconds: false, ..self },
            None => self,
        }
    }
}

/// Returns a time without a zone in UTC.
///
/// Platform: `TZ` is UTC unless the function sets it. Then a time without a zone is off by a multiple of a quarter of an hour,
/// and the platform's time by less than a minute, so the two together give the actual time.
fn to_utc(local: u64, platform: u64) -> u64 {
    let off = local.cast_signed().saturating_sub(platform.cast_signed());
    let zone = off.saturating_add(ZONE_STEP / 2).div_euclid(ZONE_STEP).saturating_mul(ZONE_STEP);
    let likely =
        zone.unsigned_abs() <= MAX_ZONE.unsigned_abs() && off.abs_diff(zone) <= MINUTE.unsigned_abs();
    if likely { local.saturating_add_signed(-zone) } else { local }
}

/// Parses a text that is exactly a date and a time, or a number as in [`from_integer`].
pub(crate) fn parse(text: &str) -> Option<LoggedTime> {
    match split_date_time(text) {
        Some((time, "")) => Some(time),
        // Java's `ZonedDateTime` and Go's `Time` name the zone once more.
        Some((time, rest)) if rest == " UTC" || rest.starts_with('[') && rest.ends_with(']') => Some(time),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => from_integer(text.parse().ok()?),
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => from_float(text.parse().ok()?),
        _ => None,
    }
}

/// Parses the date and time at the start of a text and returns the rest.
pub(crate) fn split_date_time(text: &str) -> Option<(LoggedTime, &str)> {
    let bytes = text.as_bytes();
    let separator = *bytes.get(4)?;
    if !matches!(separator, b'-' | b'/') || bytes.get(7) != Some(&separator) {
        return None;
    }
    if !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let midnight = midnight(number(bytes, 0..4)?, number(bytes, 5..7)?, number(bytes, 8..10)?)?;
    let clock = TimeOfDay::parse(bytes, 11)?;
    let (zone, end) = match zone(bytes, clock.end).or_else(|| spaced_zone(bytes, clock.end)) {
        Some((zone, end)) => (Some(zone), end),
        None => (None, clock.end),
    };
    let nanos = midnight
        .checked_add(clock.nanos)?
        .checked_add_signed(-zone.unwrap_or(0).checked_mul(MINUTE)?)
        .filter(|nanos| i64::try_from(*nanos).is_ok())?;
    let time = LoggedTime { nanos, has_no_zone: zone.is_none(), whole_seconds: clock.whole_seconds };
    Some((time, text.get(end..)?))
}

/// Parses the time of day at the start of a text, `10:00:00.123`, and returns the rest. The day is the one that
/// brings it closest to the platform time.
pub(crate) fn split_time_of_day(text: &str, platform: u64) -> Option<(LoggedTime, &str)> {
    let clock = TimeOfDay::parse(text.as_bytes(), 0)?;
    let today = platform - platform % DAY;
    let nanos = [today.saturating_sub(DAY), today, today.saturating_add(DAY)]
        .map(|midnight| midnight.saturating_add(clock.nanos))
        .into_iter()
        .min_by_key(|nanos| nanos.abs_diff(platform))?;
    let time = LoggedTime { nanos, has_no_zone: true, whole_seconds: clock.whole_seconds };
    Some((time, text.get(clock.end..)?))
}

/// Parses `11/21/2026, 12:16:49 PM` at the start of a text, as JavaScript formats a time for America, and returns the
/// rest.
pub(crate) fn split_american(text: &str) -> Option<(LoggedTime, &str)> {
    let mut fields = text.splitn(3, '/');
    let (month, day, rest) = (fields.next()?, fields.next()?, fields.next()?);
    let (year, rest) = rest.split_once(", ")?;
    of_parts(year, month.parse().ok()?, day.parse().ok()?, rest)
}

/// Parses `Nov 21, 2026 12:16:49 PM ` at the start of a text, as `java.util.logging` writes it, and returns the rest.
pub(crate) fn split_named_month(text: &str) -> Option<(LoggedTime, &str)> {
    let month = named_month(text.get(..3)?)?;
    let (day, rest) = text.get(3..)?.trim_start().split_once(", ")?;
    let (year, rest) = rest.split_once(' ')?;
    of_parts(year, month, day.parse().ok()?, rest)
}

/// Parses `Nov 21 12:16:49.355` at the start of a text, as syslog writes it, and returns the rest. The year is the
/// platform's.
pub(crate) fn split_named_month_and_day(text: &str, platform: u64) -> Option<(LoggedTime, &str)> {
    let month = named_month(text.get(..3)?)?;
    let (day, rest) = text.get(3..)?.strip_prefix(' ')?.trim_start().split_once(' ')?;
    of_this_year(month, day.parse().ok()?, rest, platform)
}

/// Parses `21 Nov 2026 12:16:49,355`, `21-Nov-2026 12:16:49`, `21-11-2026 12:16:49` and `11/21/26 12:16:49` at the start of a text, and returns the rest.
pub(crate) fn split_written_out(text: &str) -> Option<(LoggedTime, &str)> {
    let (date, clock) =
        text.get(..12)?.rfind(' ').and_then(|space| Some((text.get(..space)?, text.get(space + 1..)?)))?;
    let mut fields = date.split([' ', '/', '-']);
    let (first, second, year) = (fields.next()?, fields.next()?, fields.next()?);
    let (month, day) = match named_month(second) {
        Some(month) => (month, first.parse().ok()?),
        // With dashes, the day comes first.
        None if date.contains('-') => (second.parse().ok()?, first.parse().ok()?),
        None => (first.parse().ok()?, second.parse().ok()?),
    };
    let year: u64 = year.parse().ok()?;
    let clock_parsed = TimeOfDay::parse(clock.as_bytes(), 0)?;
    let year = if year < 100 { 2000 + year } else { year };
    let nanos = midnight(year, month, day)?.checked_add(clock_parsed.nanos)?;
    let time = LoggedTime { nanos, has_no_zone: true, whole_seconds: clock_parsed.whole_seconds };
    Some((time, clock.get(clock_parsed.end..)?))
}

/// Parses `[2026-11-21][12:16:49]` at the start of a text, as fern writes it. Returns the time and the length of its text.
pub(crate) fn parse_in_two_brackets(text: &str) -> Option<(LoggedTime, usize)> {
    const LENGTH: usize = "[2026-11-21][12:16:49]".len();
    let (date, clock) = text.get(..LENGTH)?.strip_prefix('[')?.strip_suffix(']')?.split_once("][")?;
    let time = parse(&format!("{date} {clock}"))?;
    Some((time, LENGTH))
}

/// Parses `11-21|12:16:49`, as log15 writes it. The year is the platform's.
pub(crate) fn parse_with_bar(text: &str, platform: u64) -> Option<LoggedTime> {
    let (date, clock) = text.split_once('|')?;
    let (month, day) = date.split_once('-')?;
    let (time, rest) = of_this_year(month.parse().ok()?, day.parse().ok()?, clock, platform)?;
    rest.is_empty().then_some(time)
}

/// Parses `1.7952634096936923e+09` at the start of a column, as zap writes seconds since the epoch, and returns the rest.
pub(crate) fn split_exponent(text: &str) -> Option<(LoggedTime, &str)> {
    let (number, _) = text.split_once('\t').filter(|(number, _)| number.ends_with("e+09"))?;
    Some((from_float(number.parse().ok()?)?, text.get(number.len()..)?))
}

fn named_month(name: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|month| *month == name)?;
    u64::try_from(month + 1).ok()
}

/// The time of a day and of the clock at the start of `rest`, in the year that brings it closest to the platform's time.
fn of_this_year(month: u64, day: u64, rest: &str, platform: u64) -> Option<(LoggedTime, &str)> {
    let clock = TimeOfDay::parse(rest.as_bytes(), 0)?;
    let near = 1970 + platform / (365 * DAY + DAY / 4);
    let times = [near - 1, near, near + 1].map(|year| midnight(year, month, day)?.checked_add(clock.nanos));
    let nanos = times.into_iter().flatten().min_by_key(|nanos| nanos.abs_diff(platform))?;
    let time = LoggedTime { nanos, has_no_zone: true, whole_seconds: clock.whole_seconds };
    Some((time, rest.get(clock.end..)?))
}

/// Parses `1121 12:16:49.355123` at the start of a text, as glog writes it, and returns the rest. The year is the
/// platform's.
pub(crate) fn split_month_and_day(text: &str, platform: u64) -> Option<(LoggedTime, &str)> {
    // Newer versions of glog write the year.
    let text = text
        .strip_prefix("20")
        .filter(|rest| rest.as_bytes().get(6) == Some(&b' '))
        .map_or(text, |rest| rest.get(2..).unwrap_or(rest));
    let bytes = text.as_bytes();
    let (month, day) = (number(bytes, 0..2)?, number(bytes, 2..4)?);
    of_this_year(month, day, text.get(4..)?.strip_prefix(' ')?, platform)
}

/// The time of a date and of the clock of twelve hours, `12:16:49 PM`, at the start of `clock`; and the rest.
fn of_parts<'a>(year: &str, month: u64, day: u64, clock: &'a str) -> Option<(LoggedTime, &'a str)> {
    // Newer Java and Node.js write a narrow space before AM and PM.
    let (time, rest) = clock.split_once([' ', '\u{202f}'])?;
    let (hour, rest_of_time) = time.split_once(':')?;
    let padded = format!("{hour:0>2}:{rest_of_time}");
    let parsed = TimeOfDay::parse(padded.as_bytes(), 0).filter(|parsed| parsed.end == padded.len())?;
    let half = 12 * 3600 * SECOND;
    let (nanos, rest) = match (rest.strip_prefix("AM"), rest.strip_prefix("PM")) {
        (Some(rest), _) => (parsed.nanos % half, rest),
        (None, Some(rest)) => (parsed.nanos % half + half, rest),
        (None, None) => return None,
    };
    let nanos = midnight(year.parse().ok()?, month, day)?.checked_add(nanos)?;
    Some((LoggedTime { nanos, has_no_zone: true, whole_seconds: parsed.whole_seconds }, rest))
}

/// Converts a number of seconds, milliseconds, microseconds or nanoseconds since the epoch. Its size decides
/// the unit: each unit covers the years 1973 to 5138, and the ranges do not overlap.
pub(crate) fn from_integer(number: i64) -> Option<LoggedTime> {
    let number = u64::try_from(number).ok()?;
    let unit = match number {
        100_000_000..100_000_000_000 => SECOND,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        100_000_000_000_000_000.. => 1,
        _ => return None,
    };
    let nanos = number.checked_mul(unit).filter(|nanos| i64::try_from(*nanos).is_ok())?;
    Some(LoggedTime { nanos, has_no_zone: false, whole_seconds: unit == SECOND })
}

/// Converts a number with a fraction, as [`from_integer`] does. A double holds seconds since the epoch to the
/// microsecond.
#[expect(clippy::cast_possible_truncation, reason = "both parts are in range, and the fraction is rounded")]
pub(crate) fn from_float(number: f64) -> Option<LoggedTime> {
    const LIMIT: f64 = 9e18;
    if !(0.0..LIMIT).contains(&number) {
        return None;
    }
    let whole = from_integer(number.trunc() as i64)?;
    if number.fract() == 0.0 {
        return Some(whole);
    }
    // Of a number of milliseconds a double holds a part of the microseconds, too; of one of microseconds nothing more.
    let unit = if number < 1e11 { 1e6 } else { 1e3 };
    let micros = if number < 1e14 { (number.fract() * unit).round() as i64 } else { 0 };
    Some(LoggedTime { nanos: whole.nanos.checked_add_signed(micros * 1_000)?, whole_seconds: false, ..whole })
}

/// A time of day, `10:00:00`, with or without a fraction.
struct TimeOfDay {
    nanos: u64,
    whole_seconds: bool,
    /// The offset of its end in the text.
    end: usize,
}

impl TimeOfDay {
    fn parse(bytes: &[u8], start: usize) -> Option<Self> {
        if bytes.get(start + 2) != Some(&b':') || bytes.get(start + 5) != Some(&b':') {
            return None;
        }
        let hour = number(bytes, start..start + 2).filter(|hour| *hour < 24)?;
        let minute = number(bytes, start + 3..start + 5).filter(|minute| *minute < 60)?;
        // 60 is a leap second.
        let second = number(bytes, start + 6..start + 8).filter(|second| *second <= 60)?;
        let mut nanos = ((hour * 60 + minute) * 60 + second) * SECOND;
        let mut end = start + 8;
        let mut worth = SECOND;
        if matches!(bytes.get(end), Some(b'.' | b',')) && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end += 1;
            while let Some(digit) = bytes.get(end).filter(|byte| byte.is_ascii_digit()) {
                worth /= 10;
                nanos += u64::from(digit - b'0') * worth;
                end += 1;
            }
        }
        Some(Self { nanos, whole_seconds: worth == SECOND, end })
    }
}

/// Parses a zone: returns the minutes east of UTC and the offset of its end in the text.
fn zone(bytes: &[u8], start: usize) -> Option<(i64, usize)> {
    let sign = match bytes.get(start)? {
        b'Z' | b'z' => return Some((0, start + 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = number(bytes, start + 1..start + 3).filter(|hours| *hours < 24)?;
    let colon = usize::from(bytes.get(start + 3) == Some(&b':'));
    let minutes = start + 3 + colon;
    let minutes = minutes..minutes + 2;
    let end = minutes.end;
    let minutes = number(bytes, minutes).filter(|minutes| *minutes < 60)?;
    Some((sign * (hours * 60 + minutes).cast_signed(), end))
}

/// Parses a zone after a space: ` UTC`, ` Z`, ` +0000`, ` +00:00`.
fn spaced_zone(bytes: &[u8], start: usize) -> Option<(i64, usize)> {
    if bytes.get(start) != Some(&b' ') {
        return None;
    }
    for name in ["UTC", "Z"] {
        let end = start + 1 + name.len();
        if bytes.get(start + 1..end) == Some(name.as_bytes())
            && !bytes.get(end).is_some_and(u8::is_ascii_alphanumeric)
        {
            return Some((0, end));
        }
    }
    zone(bytes, start + 1).filter(|(_, end)| !bytes.get(*end).is_some_and(u8::is_ascii_alphanumeric))
}

fn number(bytes: &[u8], range: Range<usize>) -> Option<u64> {
    bytes
        .get(range)?
        .iter()
        .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

/// The start of a day in the Gregorian calendar, from 1970 on.
fn midnight(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_before = match month {
        1 => 0,
        2 => 31,
        3 => 59,
        4 => 90,
        5 => 120,
        6 => 151,
        7 => 181,
        8 => 212,
        9 => 243,
        10 => 273,
        11 => 304,
        12 => 334,
        _ => return None,
    };
    let days_in = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || !(1..=days_in).contains(&day) {
        return None;
    }
    let past = year - 1;
    let leap_days = past / 4 - past / 100 + past / 400 - 477;
    let days = (year - 1970) * 365 + leap_days + days_before + u64::from(leap && month > 2) + day - 1;
    days.checked_mul(DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLATFORM: u64 = 1_704_103_200_900_000_000;

    fn nanos(text: &str) -> Option<u64> {
        parse(text).map(|time| time.nanos)
    }

    #[test]
    fn every_format_of_a_time_parses_alike() {
        for text in [
            "2024-01-01T10:00:00.123Z",
            "2024-01-01T10:00:00.123000000Z",
            "2024-01-01t10:00:00,123z",
            "2024-01-01T11:30:00.123+01:30",
            "2024-01-01T05:00:00.123-0500",
            "2024-01-01 10:00:00,123+0000",
            "2024-01-01 10:00:00,123",
            "2024/01/01 10:00:00.123",
            "1704103200123",
            "1704103200123000",
            "1704103200123000000",
        ] {
            assert_eq!(nanos(text), Some(1_704_103_200_123_000_000), "{text}");
        }
        assert_eq!(from_float(1_704_103_200.123).map(|time| time.nanos), Some(1_704_103_200_123_000_000));
        assert_eq!(from_integer(1_704_103_200).map(|time| time.nanos), Some(1_704_103_200_000_000_000));
        assert_eq!(nanos("2024-02-29T00:00:00Z"), Some(1_709_164_800_000_000_000));
        assert_eq!(nanos("1970-01-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn other_text_is_not_a_time() {
        for text in [
            "",
            "yesterday",
            "2024-01-01",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T10:00:00Z and more",
            "2024-01/01T10:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-01-01T00:00:00Z",
            "42",
            "99999999999999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(from_float(f64::NAN), None);
        assert_eq!(from_float(-1.5), None);
    }

    #[test]
    fn time_without_zone_is_near_the_platform_time() {
        let resolved = |text: &str| parse(text).expect("a time").resolve(PLATFORM);
        for hour in ["10:00", "19:00", "15:45", "05:00"] {
            assert_eq!(resolved(&format!("2024-01-01 {hour}:00.850")), Some(PLATFORM - 50_000_000), "{hour}");
        }
        // Not a multiple of a quarter of an hour away, so it is taken literally.
        assert_eq!(resolved("2024-01-01 10:06:00.900"), Some(PLATFORM + 360_000_000_000));
    }

    #[test]
    fn time_far_from_the_platform_time_is_data() {
        let resolved = |text| parse(text).expect("a time").resolve(PLATFORM);
        for near in ["2024-01-01T10:10:00.900Z", "2023-12-31T10:00:00.900Z"] {
            assert!(resolved(near).is_some(), "{near}");
        }
        for far in [
            "2024-01-01T10:10:01Z",
            "2023-12-31T10:00:00.899Z",
            "1970-01-01T00:00:00Z",
            "2024-01-01T19:00:00Z",
        ] {
            assert_eq!(resolved(far), None, "{far}");
        }
    }

    #[test]
    fn platform_time_wins_within_a_whole_second() {
        let resolved = |text| parse(text).expect("a time").resolve(PLATFORM);
        assert_eq!(resolved("2024-01-01T10:00:00Z"), Some(PLATFORM));
        assert_eq!(resolved("2024-01-01T10:00:00.000Z"), Some(PLATFORM - 900_000_000));
        assert_eq!(resolved("2024-01-01T09:59:59Z"), Some(PLATFORM - 1_900_000_000));
    }

    #[test]
    fn time_of_day_is_on_the_nearest_day() {
        let resolved = |text, platform| {
            split_time_of_day(text, platform).map(|(time, rest)| (time.resolve(platform), rest))
        };
        assert_eq!(resolved("10:00:00.850 x", PLATFORM), Some((Some(PLATFORM - 50_000_000), " x")));
        let midnight = PLATFORM - PLATFORM % DAY;
        assert_eq!(resolved("23:59:59.900", midnight), Some((Some(midnight - 100_000_000), "")));
        assert_eq!(resolved("00:00:00.100", midnight - 1), Some((Some(midnight + 100_000_000), "")));
        assert_eq!(resolved("0:00", midnight), None);
    }

    #[test]
    fn other_formats_of_a_time_parse_alike() {
        let wanted = Some(PLATFORM - 900_000_000);
        let nanos = |found: Option<(LoggedTime, &str)>| {
            found.filter(|(_, rest)| *rest == " x").map(|(time, _)| time.nanos)
        };
        for text in [
            "2024-01-01 10:00:00 UTC x",
            "2024-01-01 11:00:00 +0100 x",
            "2024-01-01 10:00:00 x",
            "2024-01-01 10:00:00 Z x",
        ] {
            assert_eq!(nanos(split_date_time(text)), wanted, "{text}");
        }
        for text in [
            "1 Jan 2024 10:00:00 x",
            "01 Jan 2024 10:00:00 x",
            "01/01/24 10:00:00 x",
            "01/01/2024 10:00:00 x",
        ] {
            assert_eq!(nanos(split_written_out(text)), wanted, "{text}");
        }
        for text in ["1/1/2024, 10:00:00 AM x", "01/01/2024, 10:00:00 AM x"] {
            assert_eq!(nanos(split_american(text)), wanted, "{text}");
        }
        for text in ["Jan 1, 2024 10:00:00 AM x", "Jan 01, 2024 10:00:00\u{202f}AM x"] {
            assert_eq!(nanos(split_named_month(text)), wanted, "{text}");
        }
        for text in ["Jan  1 10:00:00 x", "Jan 1 10:00:00 x"] {
            assert_eq!(nanos(split_named_month_and_day(text, PLATFORM)), wanted, "{text}");
        }
        for text in ["0101 10:00:00 x", "20240101 10:00:00 x"] {
            assert_eq!(nanos(split_month_and_day(text, PLATFORM)), wanted, "{text}");
        }
        assert_eq!(parse_with_bar("01-01|10:00:00", PLATFORM).map(|time| Some(time.nanos)), Some(wanted));
        assert_eq!(
            parse_in_two_brackets("[2024-01-01][10:00:00] x").map(|(time, _)| Some(time.nanos)),
            Some(wanted)
        );
        assert_eq!(parse("1704103200.5").map(|time| time.nanos), Some(1_704_103_200_500_000_000));
        assert_eq!(from_float(1_704_103_200_123.5).map(|time| time.nanos), Some(1_704_103_200_123_500_000));
        // The year is the one closest to the platform's time.
        assert_eq!(
            nanos(split_named_month_and_day("Dec 31 10:00:00 x", PLATFORM)),
            Some(PLATFORM - 900_000_000 - DAY)
        );
    }

    proptest! {
        #[test]
        fn any_input_is_parsed_without_panic(text in "\\PC{0,40}|[0-9]{4}[-/][0-9:,.TZ +-]{0,30}", number: f64, whole: i64, platform: u64) {
            let times = [parse(&text), split_date_time(&text).map(|(time, _)| time), from_float(number), from_integer(whole),
                split_time_of_day(&text, platform).map(|(time, _)| time), split_written_out(&text).map(|(time, _)| time),
                split_american(&text).map(|(time, _)| time), split_named_month(&text).map(|(time, _)| time),
                split_named_month_and_day(&text, platform).map(|(time, _)| time),
                split_month_and_day(&text, platform).map(|(time, _)| time), parse_with_bar(&text, platform)];
            for time in times.into_iter().flatten() {
                time.resolve(platform);
            }
        }
    }
}
