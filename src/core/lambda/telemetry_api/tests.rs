use proptest::prelude::*;

use super::deliveries::JOIN_LIMIT;
use super::*;

const TIME: &str = "2022-10-12T00:00:15.064Z";
const NANOS: u64 = 1_665_532_815_064_000_000;
const FUNCTION: &str = r#"{"time":"2022-10-12T00:00:15.064Z","type":"function","record":"#;
const DONE: &str = r#"{"time":"2022-10-12T00:00:16.000Z","type":"platform.runtimeDone","record":{"requestId":"a-1","status":"success"}}"#;
const FORGED: &str =
    r#"{"time":"2022-10-12T00:00:17.000Z","type":"platform.runtimeDone","record":{"requestId":"forged"}}"#;

/// Formats events for comparison.
fn shown(delivery: &Delivery<'_>) -> Vec<String> {
    let shown = |event: &TelemetryEvent<'_>| match &event.kind {
        EventKind::Function(record) => format!("function {}", record.get()),
        EventKind::Extension(record) => format!("extension {}", record.get()),
        EventKind::Unknown { name, record } => format!("{name} {}", record.get()),
        EventKind::Text { name, text } => format!("text of {name}: {text}"),
        EventKind::Invocation { event, request_id, .. } => format!("{event:?} of {request_id}"),
        EventKind::Environment { event, .. } => format!("{event:?}"),
    };
    delivery.events.iter().map(shown).collect()
}

fn shown_of(body: &[u8]) -> (Vec<String>, usize, usize) {
    let delivery = read(body);
    (shown(&delivery), delivery.kept_as_text, delivery.lost)
}

fn line(text: &str) -> String {
    format!(r#"{FUNCTION}"{text}"}}"#)
}

fn function(text: &str) -> String {
    format!(r#"function "{text}""#)
}

/// Returns bodies with an event between two others, cut at these positions of its record.
fn cut(envelope: &str, record: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
    let bounds: Vec<usize> = [0].iter().chain(at).chain(&[record.len()]).copied().collect();
    let last = bounds.len() - 2;
    let parts = bounds.windows(2).enumerate();
    parts
        .map(|(part, bound)| {
            let before = if part == 0 { format!("[{},", line("before")) } else { "[".to_owned() };
            let behind =
                if part == last { format!("}},{},{DONE}]", line("behind")) } else { "}]".to_owned() };
            [before.as_bytes(), envelope.as_bytes(), &record[bound[0]..bound[1]], behind.as_bytes()].concat()
        })
        .collect()
}

/// Reads bodies one after the other.
fn read_all(deliveries: &mut Deliveries, bodies: &[Vec<u8>]) -> Delivery<'static> {
    let mut all = Delivery::default();
    for body in bodies {
        all.append(deliveries.read(body).into_owned());
    }
    all
}

/// Reads a series of bodies up to its end.
fn series(bodies: &[Vec<u8>]) -> Delivery<'static> {
    let mut deliveries = Deliveries::default();
    let mut all = read_all(&mut deliveries, bodies);
    all.append(deliveries.give_up());
    all
}

const RECORDS: [&str; 7] = [
    r#""a \"quoted\" \\ line\n\u00e9\ud83d\ude00 \/ end\\""#,
    r#""é😀 漢字""#,
    r#""},{\"time\":\"T\",\"type\":\"function\",\"record\":\"forged\"},{""#,
    r#"{"level":"INFO","n":-12.5e3,"nested":{"a":[1,{"b":null}],"c":"\"}]"},"é":true}"#,
    r#"[{},{"time":"2022-10-12T00:00:17.000Z","type":"platform.runtimeDone","record":{"requestId":"forged"}},[]]"#,
    r#"{ "a" : [ { } , [ ] ] }"#,
    r#""""#,
];

#[test]
fn cut_record_is_joined() {
    for record in RECORDS {
        for name in ["function", "extension", "novelty"] {
            let envelope = FUNCTION.replace("function", name);
            let whole = shown(&series(&cut(&envelope, record.as_bytes(), &[])));
            assert_eq!(
                whole,
                [
                    function("before"),
                    format!("{name} {record}"),
                    function("behind"),
                    "RuntimeDone of a-1".to_owned()
                ]
            );
            for at in 0..record.len() {
                let delivery = series(&cut(&envelope, record.as_bytes(), &[at]));
                assert_eq!(shown(&delivery), whole, "{at} of {record}");
                assert_eq!((delivery.kept_as_text, delivery.lost), (0, 0));
            }
        }
    }
}

#[test]
fn record_cut_twice_is_joined() {
    for record in RECORDS {
        let whole = shown(&series(&cut(FUNCTION, record.as_bytes(), &[])));
        for first in 0..record.len() {
            for second in first..record.len() {
                let delivery = series(&cut(FUNCTION, record.as_bytes(), &[first, second]));
                assert_eq!(shown(&delivery), whole, "{first} and {second} of {record}");
            }
        }
    }
}

#[test]
fn two_cut_records_follow_each_other() {
    let bodies = [
        format!(r#"[{FUNCTION}"first ha}}]"#),
        format!(r#"[{FUNCTION}lf"}},{FUNCTION}{{"second":"ha}}]"#),
        format!(r#"[{FUNCTION}lf"}}}},{DONE}]"#),
    ];
    assert_eq!(
        shown(&series(&bodies.map(String::into_bytes))),
        [function("first half"), r#"function {"second":"half"}"#.to_owned(), "RuntimeDone of a-1".to_owned()]
    );
}

#[test]
fn halves_without_continuation_are_kept() {
    let half = format!(r#"[{},{FUNCTION}"half of"#, line("before"));
    for (instead, rest) in [
        (format!("[{DONE}]"), vec!["RuntimeDone of a-1".to_owned()]),
        // The same time and type, but another record.
        (format!("[{},{DONE}]", line("another")), vec![function("another"), "RuntimeDone of a-1".to_owned()]),
        ("[]".to_owned(), vec![]),
    ] {
        let delivery = series(&[format!("{half}}}]").into_bytes(), instead.into_bytes()]);
        let expected = [vec![function("before"), r#"text of function: "half of"#.to_owned()], rest].concat();
        assert_eq!(shown(&delivery), expected);
        assert_eq!((delivery.kept_as_text, delivery.lost), (1, 0));
        assert!(delivery.events.iter().all(|event| event.time.is_some()));
    }
}

#[test]
fn rest_without_beginning_is_kept() {
    let rests = [
        (r#"rest\" of it"}"#, r#"rest\" of it""#),
        (r#"" is its beginning","b":1}}"#, r#"" is its beginning","b":1}"#),
        (r#"\\"}"#, r#"\\""#),
        ("}", ""),
    ];
    for (rest, text) in rests {
        let (events, kept, lost) =
            shown_of(format!("[{FUNCTION}{rest},{},{DONE}]", line("behind")).as_bytes());
        let behind = [function("behind"), "RuntimeDone of a-1".to_owned()];
        if text.is_empty() {
            assert_eq!((events.as_slice(), kept, lost), (&behind[..], 0, 1));
        } else {
            let expected = [vec![format!("text of function: {text}")], behind.to_vec()].concat();
            assert_eq!((events, kept, lost), (expected, 1, 0), "{rest}");
        }
    }
}

#[test]
fn record_given_up_is_still_followed() {
    let record = format!(r#"{{"a":"text","x":[{{}},{FORGED},{FORGED}]}}"#);
    let at = [10, 40];
    let bodies = cut(FUNCTION, record.as_bytes(), &at);
    let mut deliveries = Deliveries::default();
    deliveries.read(&bodies[0]);
    let text = |part: &str| format!("text of function: {part}");
    assert_eq!(shown(&deliveries.give_up()), [text(&record[..10])]);
    assert_eq!(shown(&deliveries.give_up()), [""; 0]);
    assert_eq!(
        shown(&read_all(&mut deliveries, &bodies[1..])),
        [text(&record[10..40]), text(&record[40..]), function("behind"), "RuntimeDone of a-1".to_owned()]
    );
}

#[test]
fn joining_is_bounded() {
    let mut deliveries = Deliveries::default();
    let part = "x".repeat(1 << 20);
    let first = format!(r#"[{FUNCTION}"{part}}}]"#);
    let middle = format!("[{FUNCTION}{part}}}]");
    let last = format!(r#"[{FUNCTION}{part}"}},{DONE}]"#);
    let mut texts = 0;
    let mut bytes = 0;
    for body in [&[first], vec![middle; 20].as_slice(), &[last]].concat() {
        let delivery = deliveries.read(body.as_bytes());
        for event in &delivery.events {
            if let EventKind::Text { text, .. } = &event.kind {
                texts += 1;
                bytes += text.len();
            }
        }
        if let Some(TelemetryEvent { kind: EventKind::Invocation { .. }, .. }) = delivery.events.last() {
            assert_eq!(delivery.events.len(), 2);
        }
    }
    assert_eq!(bytes, (22 << 20) + 2, "all of it is kept");
    assert_eq!(texts, 22 - JOIN_LIMIT / (1 << 20) + 2);
}

#[test]
fn repeated_first_part_is_ignored() {
    for at in [5, 20] {
        let bodies = cut(FUNCTION, RECORDS[3].as_bytes(), &[at]);
        let whole = shown(&series(&bodies));
        assert_eq!(shown(&series(&[bodies[0].clone(), bodies[0].clone(), bodies[1].clone()])), whole);
    }
}

#[test]
fn invalid_bytes_cost_their_record_nothing_else() {
    let body = [
        b"[".as_slice(),
        line("before").as_bytes(),
        b",",
        FUNCTION.as_bytes(),
        b"\"caf\xe9\"},",
        FUNCTION.as_bytes(),
        b"{\"a\":\"tab\there, line\nthere\",\"b\":\"\x00\"}},",
        line("behind").as_bytes(),
        b",",
        DONE.as_bytes(),
        b"]",
    ]
    .concat();
    let (events, kept, lost) = shown_of(&body);
    assert_eq!(
        events,
        [
            function("before"),
            function("caf\u{fffd}"),
            r#"function {"a":"tab\u0009here, line\u000athere","b":"\u0000"}"#.to_owned(),
            function("behind"),
            "RuntimeDone of a-1".to_owned()
        ]
    );
    assert_eq!((kept, lost), (0, 0));
}

#[test]
fn invalid_bytes_of_a_cut_record_are_repaired() {
    let record = b"\"caf\xe9 \x01 \xf0\x9f\x98\x80\"";
    for at in 0..record.len() {
        let delivery = series(&cut(FUNCTION, record, &[at]));
        assert_eq!(shown(&delivery)[1], "function \"caf\u{fffd} \\u0001 😀\"", "{at}");
    }
}

#[test]
fn broken_record_is_kept_as_text() {
    for (record, text) in [
        (r#""an "unescaped" quote""#, r#""an "unescaped" quote""#),
        (r#""one " quote""#, r#""one " quote""#),
        (r#"{"a":nope}"#, r#"{"a":nope}"#),
        (r#"{"a":1,}"#, r#"{"a":1,}"#),
        (r#"{"a" 1}"#, r#"{"a" 1}"#),
        (r#""\x""#, r#""\x""#),
        (r#""no end"#, r#""no end"#),
        (r#"{"no":"end"#, r#"{"no":"end"#),
        (r#"{"no":[1"#, r#"{"no":[1"#),
        ("NaN", "NaN"),
    ] {
        for (place, body) in [
            format!("[{},{FUNCTION}{record}}},{},{DONE}]", line("before"), line("behind")),
            format!("[{},{},{FUNCTION}{record}}},{DONE}]", line("before"), line("behind")),
        ]
        .into_iter()
        .enumerate()
        {
            let (mut events, kept, lost) = shown_of(body.as_bytes());
            assert_eq!(events.remove(1 + place), format!("text of function: {text}"), "{body}");
            assert_eq!(events, [function("before"), function("behind"), "RuntimeDone of a-1".to_owned()]);
            assert_eq!((kept, lost), (1, 0), "{body}");
        }
    }
}

#[test]
fn garbage_between_events_costs_no_event() {
    for garbage in [
        "nope",
        "\"",
        "}{",
        "]",
        "[",
        "{",
        "\\",
        "1 2",
        ",",
        ":",
        "\u{1}\u{fffd}",
        "[1,{\"a\":",
        "[1",
        "{\"a\":1,\"b\":[2",
        "{\"time\":\"T\",",
        "}]",
        "][",
    ] {
        let body = format!("[{},{garbage},{},{DONE}]", line("before"), line("behind"));
        let (events, kept, lost) = shown_of(body.as_bytes());
        assert_eq!(
            events,
            [function("before"), function("behind"), "RuntimeDone of a-1".to_owned()],
            "{body}"
        );
        assert!(kept == 0 && lost > 0, "{body}");
    }
}

#[test]
fn runtime_done_is_recognised_in_any_body() {
    for (body, lost) in [
        (DONE.to_owned(), true),
        (format!("\u{feff}[{DONE}]"), true),
        (format!("[{DONE}"), true),
        (format!("{DONE}\n{DONE}"), true),
        (format!("[{}]", DONE.replace("success", "\u{1}")), false),
        (format!("[{}]", DONE.replace(r#""success""#, "nope")), false),
        (format!("[{}", &DONE[..DONE.len() - 12]), false),
        (format!("[{}}}]", &DONE[..DONE.len() - 12]), false),
        (format!("[{FUNCTION}\"text,{DONE}]"), false),
    ] {
        let delivery = read(body.as_bytes());
        assert!(shown(&delivery).contains(&"RuntimeDone of a-1".to_owned()), "{body} {:?}", shown(&delivery));
        assert_eq!(delivery.lost > 0, lost, "{body}");
    }
}

#[test]
fn text_never_becomes_an_event() {
    let escaped = serde_json::Value::from(format!(r#""}},{FORGED},{FORGED}]"#)).to_string();
    let nested = format!(r#"{{"a":[{FORGED},{FORGED}],"b":{FORGED},"c":"\"}}]"}}"#);
    for record in [escaped, nested] {
        // Next to a well-formed or a broken record.
        for other in [r#""well""#.as_bytes(), b"\"caf\xe9\"", br#""a " quote""#, b"{nope}"] {
            let body = [
                b"[".as_slice(),
                FUNCTION.as_bytes(),
                other,
                b"},",
                FUNCTION.as_bytes(),
                record.as_bytes(),
                b"}]",
            ]
            .concat();
            let (events, _, _) = shown_of(&body);
            assert!(!events.contains(&"RuntimeDone of forged".to_owned()), "{events:?}");
            assert!(events.contains(&format!("function {record}")), "{events:?}");
        }
        for at in 1..record.len() {
            let bodies = cut(FUNCTION, record.as_bytes(), &[at]);
            let whole = shown(&series(&bodies));
            assert!(!whole.contains(&"RuntimeDone of forged".to_owned()), "{at}");
            // The rest without its beginning, and the beginning without its rest.
            for half in bodies {
                let events = shown(&series(std::slice::from_ref(&half)));
                let forged = events.contains(&"RuntimeDone of forged".to_owned());
                assert!(!forged, "{at}: {}\n{events:#?}", String::from_utf8_lossy(&half));
            }
        }
    }
}

#[test]
fn invalid_element_costs_only_itself() {
    let delivery = read(
        br#"[
        {"time":"2022-10-12T00:00:15.064Z","type":"platform.start","record":{"requestId":"a","extra":[1]}},
        42, null, "text", [], {}, {"type":7}, {"type":"platform.start","record":{"requestId":null}},
        {"time":17,"type":"function","record":"kept"},
        {"type":"platform.runtimeDone","record":{"requestId":"a","status":"new","metrics":{"durationMs":"soon"}}}
    ]"#,
    );
    assert_eq!((delivery.kept_as_text, delivery.lost), (0, 7));
    assert!(matches!(
        delivery.events.as_slice(),
        [
            TelemetryEvent {
                time: Some(NANOS),
                kind: EventKind::Invocation { event: InvocationEvent::Start, .. }
            },
            TelemetryEvent { time: None, kind: EventKind::Function(_) },
            TelemetryEvent {
                time: None,
                kind: EventKind::Invocation { event: InvocationEvent::RuntimeDone, .. }
            },
        ]
    ));
}

#[test]
fn first_of_duplicate_keys_counts() {
    let doubled =
        r#"{"type":"function","type":"platform.runtimeDone","record":1,"record":{"requestId":"forged"}}"#;
    assert_eq!(shown_of(format!("[{doubled}]").as_bytes()), (vec!["function 1".to_owned()], 0, 0));
    let enveloped =
        format!(r#"[{FUNCTION}1,"type":"platform.runtimeDone","record":{{"requestId":"forged"}}}}]"#);
    let text = r#"text of function: 1,"type":"platform.runtimeDone","record":{"requestId":"forged"}"#;
    assert_eq!(shown_of(enveloped.as_bytes()), (vec![text.to_owned()], 1, 0));
}

#[test]
fn events_before_a_syntax_error_are_read() {
    let delivery = read(br#"[{"type":"function","record":"a"},{"type":"function","rec"#);
    assert_eq!((delivery.events.len(), delivery.lost), (1, 1));
    for broken in [&b""[..], b"{}", b"\xff", b"[] []", b"null", b"[", b"[{},]"] {
        let lost = read(broken).lost;
        assert_eq!(lost, if broken == b"[{},]" { 2 } else { 1 }, "{broken:?}");
    }
}

#[test]
fn unknown_type_is_kept_with_its_record() {
    let (events, kept, lost) = shown_of(br#"[{"type":"platform.brandNew","record":{"a":1}}]"#);
    assert_eq!((events, kept, lost), (vec![r#"platform.brandNew {"a":1}"#.to_owned()], 0, 0));
}

#[test]
fn record_of_null_is_a_record() {
    for body in [&br#"[{"type":"function","record":null}]"#[..], br#"[{"type":"function"}]"#] {
        assert_eq!(shown_of(body).0, ["function null"]);
    }
}

/// With these bodies, a reader that starts again after every error would never finish.
#[test]
fn work_is_linear() {
    let events = 40_000;
    for piece in [
        format!("{FUNCTION}{{\"a\":["),
        format!("{FUNCTION}{{\"a\":[],"),
        format!("{FUNCTION}\"a "),
        format!("{FUNCTION}x,"),
        format!("{FUNCTION}x,{FUNCTION}1}}],"),
        format!("{FUNCTION}[1]}}]"),
        "{".to_owned(),
        "[".to_owned(),
        "{ ".to_owned(),
        "\"{".to_owned(),
        "[{},".to_owned(),
        format!("[1,{FUNCTION}1}},"),
        format!("[1,{FUNCTION}[1,"),
    ] {
        let body = format!("[{}", piece.repeat(events));
        let delivery = read(body.as_bytes());
        assert!(delivery.events.len() <= 2 * events + 1, "{piece}");
    }
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
        "[\\\\\"{}\\[\\],:a-c\u{e9}]{0,12}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Generates records as Lambda writes them: strings and objects.
fn record() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        proptest::collection::vec((any::<String>(), value()), 0..4)
            .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect()).to_string()),
    ]
}

/// Generates JSON that contains forged events.
fn forging() -> impl Strategy<Value = String> {
    let text = "[{}\\[\\]:,]{0,5}".prop_map(|text| format!("\"{text}\""));
    let leaf = prop_oneof![3 => Just(FORGED.to_owned()), 1 => Just("1".to_owned()), 2 => text];
    let tree = leaf.prop_recursive(4, 24, 4, |inner| {
        let of = |values: Vec<String>, key: bool| {
            let values = values.iter().enumerate();
            values
                .map(|(at, value)| if key { format!(r#""}},{{{at}":{value}"#) } else { value.clone() })
                .collect::<Vec<_>>()
                .join(",")
        };
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(move |values| format!("[{}]", of(values, false))),
            proptest::collection::vec(inner, 0..4)
                .prop_map(move |values| format!("{{{}}}", of(values, true))),
        ]
    });
    tree.prop_map(|value| format!(r#"{{"forging":{value}}}"#))
}

proptest! {
    #[test]
    fn rest_of_a_record_forges_no_event(record in forging(), at in any::<prop::sample::Index>()) {
        let bodies = cut(FUNCTION, record.as_bytes(), &[at.index(record.len())]);
        for series in [&bodies[..1], &bodies[1..], &bodies[..]].map(series) {
            let events = shown(&series);
            prop_assert!(!events.contains(&"RuntimeDone of forged".to_owned()), "{events:#?}");
        }
        let events = shown(&series(&bodies[1..]));
        prop_assert!(events.ends_with(&[function("behind"), "RuntimeDone of a-1".to_owned()]), "{events:#?}");
    }

    #[test]
    fn cut_delivery_gives_the_same_events(
        records in proptest::collection::vec((record(), any::<bool>()), 1..6),
        at in any::<prop::sample::Index>(),
        size in 1_usize..200,
    ) {
        let events: Vec<String> = records
            .iter()
            .map(|(record, extension)| {
                let name = if *extension { "extension" } else { "function" };
                format!(r#"{{"time":"{TIME}","type":"{name}","record":{record}}}"#)
            })
            .collect();
        let whole = series(&[format!("[{},{DONE}]", events.join(",")).into_bytes()]);
        let large = at.index(events.len());
        let (record, _) = &records[large];
        let envelope = &events[large][..events[large].len() - record.len() - 1];
        let mut bodies: Vec<Vec<u8>> = record
            .as_bytes()
            .chunks(size)
            .map(|part| [b"[".as_slice(), envelope.as_bytes(), part, b"}]"].concat())
            .collect();
        if large > 0 {
            bodies[0].splice(1..1, format!("{},", events[..large].join(",")).into_bytes());
        }
        if let Some(last) = bodies.last_mut() {
            last.pop();
            for event in &events[large + 1..] {
                last.extend_from_slice(format!(",{event}").as_bytes());
            }
            last.extend_from_slice(format!(",{DONE}]").as_bytes());
        }
        let delivery = series(&bodies);
        prop_assert_eq!(shown(&delivery), shown(&whole));
        prop_assert_eq!((delivery.kept_as_text, delivery.lost), (0, 0));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        bodies in proptest::collection::vec(
            proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..8),
                    "[\\[\\]{},:\"\\\\ a1]{1,4}".prop_map(String::into_bytes),
                    Just(FUNCTION.as_bytes().to_vec()),
                    Just(DONE.as_bytes().to_vec()),
                    Just(b"\"}]".to_vec()),
                    Just(b"},".to_vec()),
                ],
                0..12,
            ),
            0..4,
        ),
    ) {
        let bodies: Vec<Vec<u8>> = bodies.iter().map(|pieces| [b"[".to_vec(), pieces.concat()].concat()).collect();
        let delivery = series(&bodies);
        let bytes: usize = bodies.iter().map(Vec::len).sum();
        prop_assert!(delivery.events.len() + delivery.lost <= bytes);
    }

    #[test]
    fn broken_event_costs_no_other_one(
        garbage in proptest::collection::vec(any::<u8>(), 0..20),
        is_record in any::<bool>(),
    ) {
        let envelope = if is_record { FUNCTION } else { "" };
        let end = if is_record { "}" } else { "" };
        let body = [
            format!("[{},{envelope}", line("before")).as_bytes(),
            &garbage,
            format!("{end},{},{DONE}]", line("behind")).as_bytes(),
        ]
        .concat();
        let events = shown(&read(&body));
        for event in [function("behind"), "RuntimeDone of a-1".to_owned()] {
            prop_assert!(events.contains(&event), "{events:?}");
        }
        // If brackets close too much, the first line may be the rest of a record, and is text.
        prop_assert!(events.iter().any(|event| event.contains("\"before\"")), "{events:?}");
    }
}
