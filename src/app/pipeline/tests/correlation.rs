//! Spans in the log records of invocations.

use super::*;
use rotel_core::lambda::invocation_span;

const NO_FALLBACK: FallbackSpans = FallbackSpans { platform: false, xray: false };
const PLATFORM: FallbackSpans = FallbackSpans { platform: true, xray: false };
const XRAY: FallbackSpans = FallbackSpans { platform: false, xray: true };

#[tokio::test(start_paused = true)]
async fn pending_logs_get_a_later_span() {
    let mut test = Test::with_fallback_spans(NO_FALLBACK).await;
    test.invoke("a");
    test.log("a", 2);
    test.send_span(Origin::Sdk, 7, "a");
    test.log("a", 1);
    assert_eq!(test.end().await, (vec![Some(7); 3], 1));
    test.invoke("b");
    test.log("b", 1);
    test.log("a", 1);
    test.send_span(Origin::Sdk, 9, "c");
    assert_eq!(test.end().await, (vec![None, Some(7)], 1), "b has no span");
}

#[tokio::test(start_paused = true)]
async fn logs_of_a_failed_attempt_get_a_later_span() {
    let mut test = Test::with_fallback_spans(NO_FALLBACK).await;
    test.invoke("a");
    test.log("a", 2);
    let flushed = test.flush(FlushReason::EndOfInvocation);
    let attempt = test.attempt().await;
    assert_eq!(attempt.spans_named(), [None, None]);
    test.send_span(Origin::Sdk, 7, "a");
    test.nothing_starts().await;
    attempt.answer(unavailable());
    drop(flushed);
    test.handle.control(Control::CancelFlush);
    test.handle.control(Control::CloseWindow);
    freeze(Duration::from_mins(1));
    test.invoke("b");
    let mut named = Vec::new();
    for _ in 0..2 {
        let attempt = test.attempt().await;
        if attempt.signal == Signal::Logs {
            named = attempt.spans_named();
        }
        attempt.answer(ACCEPTED);
    }
    assert_eq!(named, [Some(7), Some(7)]);
}

#[tokio::test(start_paused = true)]
async fn platform_span_is_used_only_without_sdk_spans() {
    let mut test = Test::with_fallback_spans(PLATFORM).await;
    test.invoke("a");
    test.log("a", 1);
    test.send_span(Origin::Platform, 5, "a");
    assert_eq!(test.end().await, (vec![Some(5)], 1));
    test.invoke("b");
    test.log("b", 1);
    test.send_span(Origin::Sdk, 7, "b");
    test.send_span(Origin::Platform, 5, "b");
    assert_eq!(test.end().await, (vec![Some(7)], 1));
    test.invoke("c");
    test.log("c", 1);
    test.send_span(Origin::Platform, 5, "c");
    assert_eq!(test.end().await, (vec![None], 0), "the SDK may still send it");
    test.invoke("d");
    test.log("d", 1);
    test.handle.send_from_intake(Control::CutOff("d".to_owned())).await;
    test.send_span(Origin::Platform, 5, "d");
    assert_eq!(test.end().await, (vec![Some(5)], 1), "the SDK can no longer send it");
}

#[tokio::test(start_paused = true)]
async fn logs_reference_the_platform_span_before_it_exists() {
    let mut test = Test::with_fallback_spans(PLATFORM).await;
    test.invoke("a");
    test.log("a", 1);
    let flushed = test.flush(FlushReason::NearDeadline);
    let attempt = test.attempt().await;
    let xray = Header::read("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2");
    let derived = invocation_span("a", xray.as_ref(), Some(DEADLINE_MS));
    assert_eq!(attempt.spans_named(), [Some(derived.span_id[0])]);
    attempt.answer(ACCEPTED);
    flushed.await.expect("flushed");
}

#[tokio::test(start_paused = true)]
async fn xray_span_is_used_if_enabled_and_no_other_is_known() {
    let mut test = Test::with_fallback_spans(XRAY).await;
    test.invoke("a");
    test.log("a", 1);
    assert_eq!(test.end().await, (vec![Some(0x2b)], 0));
    test.invoke("b");
    test.log("b", 1);
    test.send_span(Origin::Sdk, 7, "b");
    assert_eq!(test.end().await, (vec![Some(7)], 1));
}

#[tokio::test(start_paused = true)]
async fn logs_keep_their_spans_over_a_long_outage() {
    const INVOCATIONS: u8 = 200;
    let mut test = Test::with_fallback_spans(PLATFORM).await;
    test.open_the_breaker().await;
    for number in 1..=INVOCATIONS {
        test.invoke(&number.to_string());
        test.log(&number.to_string(), 2);
        test.nothing_starts().await;
        test.handle.control(Control::CloseWindow);
    }
    let (named, _) = test.flushed(FlushReason::Shutdown).await;
    let span = |number: u8| invocation_span(&number.to_string(), None, Some(DEADLINE_MS)).span_id[0];
    let expected = (1..=INVOCATIONS).flat_map(|number| [Some(span(number)); 2]);
    assert_eq!(named, [None].into_iter().chain(expected).collect::<Vec<_>>());
}
