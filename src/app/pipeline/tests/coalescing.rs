//! Chunks that wait to be sent together, and those that do not.

use std::time::Instant;

use super::*;

/// Accepts the next attempt. Asserts that it holds these chunks and that no time has passed since `began`.
async fn accepts_at_once(test: &mut Test, items: &[usize], began: Instant) {
    let attempt = test.attempt().await;
    assert_eq!((attempt.items.as_slice(), clock::now()), (items, began));
    attempt.answer(ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn chunks_soon_after_a_request_are_sent_together() {
    let mut test = Test::start().await;
    test.open();
    test.offer(Signal::Traces, Origin::Sdk, 1);
    let began = clock::now();
    test.attempt().await.answer(ACCEPTED);
    for items in [2, 3, 4] {
        test.offer(Signal::Traces, Origin::Sdk, items);
        test.nothing_starts().await;
    }
    test.offer(Signal::Logs, Origin::Sdk, 5);
    let logs = test.attempt().await;
    assert_eq!((logs.signal, clock::now()), (Signal::Logs, began), "another signal had to wait");
    logs.answer(ACCEPTED);
    let together = test.attempt().await;
    assert_eq!((&together.items, clock::now() - began), (&vec![2, 3, 4], Duration::from_millis(100)));
    together.answer(ACCEPTED);
    // A flush does not wait.
    test.offer(Signal::Traces, Origin::Sdk, 6);
    assert_eq!(test.flush_all(FlushReason::EndOfInvocation, ACCEPTED).await, [(Signal::Traces, 6)]);
    test.handle.control(Control::CloseWindow);
    test.offer(Signal::Traces, Origin::Sdk, 7);
    let closed = clock::now();
    test.open();
    assert_eq!(
        (test.attempt().await.items, clock::now()),
        (vec![7], closed),
        "it waited since the last invocation"
    );
}

#[tokio::test(start_paused = true)]
async fn full_batch_does_not_wait() {
    let mut test = Test::with(&[("ROTEL_BATCH_MAX_SIZE", "4")], None).await;
    test.open();
    test.offer(Signal::Traces, Origin::Sdk, 1);
    let began = clock::now();
    test.attempt().await.answer(ACCEPTED);
    test.offer(Signal::Traces, Origin::Sdk, 2);
    test.nothing_starts().await;
    test.offer(Signal::Traces, Origin::Sdk, 2);
    accepts_at_once(&mut test, &[2, 2], began).await;
}

#[tokio::test(start_paused = true)]
async fn rest_of_a_release_does_not_wait() {
    let mut test = Test::with(&[("ROTEL_BATCH_MAX_SIZE", "4")], None).await;
    test.offer(Signal::Traces, Origin::Sdk, 3);
    test.offer(Signal::Traces, Origin::Sdk, 3);
    test.nothing_starts().await;
    let began = clock::now();
    test.open();
    for _ in 0..2 {
        accepts_at_once(&mut test, &[3], began).await;
    }
}

#[tokio::test(start_paused = true)]
async fn split_batch_does_not_wait() {
    let mut test = Test::start().await;
    test.open();
    test.handle.offer(large(Signal::Traces, 2, 20_000), None).expect("room");
    let began = clock::now();
    test.attempt().await.answer(Verdict::TooLarge(Failure::Http(413)));
    for _ in 0..2 {
        accepts_at_once(&mut test, &[1], began).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_without_announced_ends() {
    let mut test = Test::start().await;
    test.handle.control(Control::KeepOpen(DuringInvocation::AtOnce));
    let began = clock::now();
    for items in [1, 2] {
        test.offer(Signal::Traces, Origin::Sdk, items);
        accepts_at_once(&mut test, &[items], began).await;
        test.nothing_starts().await;
    }
}
