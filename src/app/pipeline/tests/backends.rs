//! Several backends at once.

use super::*;

/// Returns a pipeline to two backends, with a test harness for each.
async fn two(variables: &[(&str, &str)]) -> [Test; 2] {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = config::read(&variables.collect()).config;
    let channels = [mpsc::channel(64), mpsc::channel(64)];
    let backends = channels.iter().zip(["one", "other"]).map(|((attempts, _), name)| {
        backend(Some(name), Fake { attempts: attempts.clone(), generation: 0, retry: None, no_route: None })
    });
    let rules = ResourceRules::new(&config, &Registration::default());
    let (pipeline, handle) = Pipeline::new(&config, rules, backends.collect());
    tokio::spawn(pipeline.run());
    handle.control(Control::SetUp);
    let mut tests = channels.map(|(_, attempts)| Test { handle: handle.clone(), attempts });
    for test in &mut tests {
        test.nothing_starts().await;
    }
    tests
}

#[tokio::test(start_paused = true)]
async fn flush_ends_when_it_has_ended_for_every_backend() {
    let [mut one, mut other] = two(&[]).await;
    one.offer(Signal::Logs, Origin::Platform, 2);
    let mut flushed = one.flush(FlushReason::EndOfInvocation);
    let first = one.attempt().await;
    let second = other.attempt().await;
    assert_eq!((&first.items, &second.items), (&vec![2], &vec![2]));
    assert_eq!(first.chunks[0].as_ptr(), second.chunks[0].as_ptr(), "a chunk for both is held once");
    first.answer(ACCEPTED);
    one.nothing_starts().await;
    assert!(flushed.try_recv().is_err(), "the other has not answered");
    second.answer(ACCEPTED);
    flushed.await.expect("flushed");
}

#[tokio::test(start_paused = true)]
async fn failing_backend_costs_the_other_nothing() {
    let [mut down, mut well] = two(&[]).await;
    for round in 0..50 {
        well.handle.control(Control::OpenWindow { during: DuringInvocation::AtOnce, held: true });
        well.offer(Signal::Logs, Origin::Platform, 1);
        let flushed = well.flush(FlushReason::EndOfInvocation);
        let attempt = well.attempt().await;
        assert_eq!(attempt.items, [1], "round {round}");
        attempt.answer(ACCEPTED);
        if let Ok(attempt) = down.attempts.try_recv() {
            match round % 3 {
                // No answer.
                0 => {
                    clock::until(Some(clock::now() + FLUSH_TIMEOUT)).await;
                    down.handle.control(Control::CancelFlush);
                    drop(attempt.chunks);
                }
                1 => attempt.answer(unavailable()),
                _ => attempt.answer(Verdict::Refused(Failure::Http(401))),
            }
        }
        drop(flushed);
        well.handle.control(Control::CloseWindow);
        well.nothing_starts().await;
    }
}

#[tokio::test(start_paused = true)]
async fn largest_sender_drops_first_when_memory_is_full() {
    const SIZE: usize = 10_000;
    let budget = 40 * SIZE;
    let [mut down, mut well] = two(&[("ROTEL_BUFFER_MAX_BYTES", &budget.to_string())]).await;
    let keep = |items| well.handle.offer(large(Signal::Traces, items, SIZE), None).expect("room");
    let mut sent = 0;
    for _ in 0..20 {
        well.handle.control(Control::OpenWindow { during: DuringInvocation::AtOnce, held: true });
        keep(4);
        let flushed = well.flush(FlushReason::EndOfInvocation);
        while let Ok(attempt) = tokio::time::timeout(Duration::from_millis(1), well.attempts.recv()).await {
            let attempt = attempt.expect("the pipeline lives");
            sent += attempt.items.iter().sum::<usize>();
            attempt.answer(ACCEPTED);
        }
        while let Ok(attempt) = down.attempts.try_recv() {
            attempt.answer(unavailable());
        }
        drop(flushed);
        well.handle.control(Control::CloseWindow);
    }
    assert_eq!(sent, 80, "the healthy backend lost items");
    let seen = down.flush_all(FlushReason::Shutdown, ACCEPTED).await;
    let kept: usize =
        seen.iter().filter(|(signal, _)| *signal == Signal::Traces).map(|(_, items)| items).sum();
    assert!((20..40).contains(&kept), "{kept} of at most {budget} bytes");
}
