//! The way into the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::core::chunk::Chunk;
use crate::core::delivery::budget::{ByteBudget, Reservation, ReserveError};
use crate::core::delivery::cadence::DuringInvocation;
use crate::core::lambda::correlation::InvokeTimes;
use crate::core::lambda::lifecycle::FlushReason;
use crate::core::lambda::xray::Header;

/// How many messages may wait. The pipeline never waits for the network itself, so that a full queue means that it is
/// broken; the bytes behind the messages are bounded by the buffer as soon as it takes them.
pub(super) const QUEUE_LIMIT: usize = 1024;
/// Of these, so many are kept for messages of the driver, none of which may be lost to telemetry.
pub(super) const CONTROL_RESERVE: usize = 16;

/// A message to the pipeline.
#[derive(Debug)]
pub(super) enum PipelineMessage {
    /// With the room that is kept for it in the buffers.
    Ingest(Chunk, QueueSlot, Option<Reservation>),
    FromIntake(Control, QueueSlot),
    /// From the driver.
    Control(Control),
}

/// A message's place in the queue, free again once that was taken.
pub(super) type QueueSlot = OwnedSemaphorePermit;

/// What the driver and the intake tell the pipeline.
#[derive(Debug)]
pub enum Control {
    /// The first `/next` is out: set the exporter up.
    SetUp,
    /// INVOKE or `platform.start` told of an invocation.
    InvocationStarted(InvocationStart),
    /// The function was ended in the midst of the invocation of this request id.
    CutOff(String),
    /// The end of an invocation is known, and with it of those before it. It may be known late: when the next one runs.
    InvocationEnded {
        /// Of the invocation.
        request_id: String,
        /// When it ended, in nanoseconds since the epoch: the freeze that follows may delay this message.
        at: u64,
    },
    /// A function runs.
    OpenWindow {
        /// When pending telemetry is sent during the invocation.
        during: DuringInvocation,
        /// A flush follows the end of the function, and then [`Control::Close`]. Otherwise the environment may be frozen
        /// at any time, without a word.
        held: bool,
    },
    /// No function runs: nothing may be in flight.
    CloseWindow,
    /// Nobody tells when functions run.
    KeepOpen(DuringInvocation),
    /// Send everything enqueued so far, and say when that is done or has failed.
    Flush {
        /// Why.
        reason: FlushReason,
        /// When it is called off at the latest.
        deadline: std::time::Instant,
        /// Told, or dropped with the pipeline.
        done: oneshot::Sender<()>,
    },
    /// Call the flush off: end what is in flight and keep it.
    CancelFlush,
    /// The environment was restored from a snapshot: connections, secrets and what was learnt of the backend are old.
    Restored,
    /// The process ends: say what is lost by that.
    Shutdown(oneshot::Sender<()>),
    /// The platform told the name of the environment.
    InstanceId(String),
    /// Drop this, to show that the pipeline has its turn still.
    LivenessProbe(oneshot::Sender<()>),
}

/// An invocation, as somebody told of it.
#[derive(Debug)]
pub struct InvocationStart {
    /// Its request id.
    pub request_id: String,
    /// The trace that it is part of.
    pub xray: Option<Header>,
    /// What INVOKE said; `None` where it was `platform.start` that told.
    pub invoked: Option<InvokeTimes>,
}

/// The way into the pipeline.
#[derive(Clone, Debug)]
pub struct Handle {
    messages: mpsc::Sender<PipelineMessage>,
    /// For all that is not the driver's. It is counted beside the queue, because whoever waits for several places of a
    /// queue holds those that become free meanwhile, and so the driver's.
    room: Arc<Semaphore>,
    wants_flush: Arc<AtomicBool>,
    budget: ByteBudget,
}

/// Why telemetry is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnqueueError {
    /// The queue is full.
    Full,
    /// The pipeline is gone.
    Gone,
}

impl Handle {
    pub(super) fn new(
        wants_flush: Arc<AtomicBool>,
        budget: ByteBudget,
    ) -> (Self, mpsc::Receiver<PipelineMessage>) {
        let (messages, receiver) = mpsc::channel(QUEUE_LIMIT);
        let room = Arc::new(Semaphore::new(QUEUE_LIMIT - CONTROL_RESERVE));
        (Self { messages, room, wants_flush, budget }, receiver)
    }

    /// Returns true if the next invocation must flush at its end under any strategy.
    pub fn wants_flush(&self) -> bool {
        self.wants_flush.load(Ordering::Relaxed)
    }

    /// Keeps room in the buffers for a request of so many bytes.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, ReserveError> {
        self.budget.reserve(bytes)
    }

    /// Enqueues telemetry, if there is room in the queue.
    pub fn offer(&self, chunk: Chunk, reservation: Option<Reservation>) -> Result<(), EnqueueError> {
        if self.messages.is_closed() {
            return Err(EnqueueError::Gone);
        }
        let slot = Arc::clone(&self.room).try_acquire_owned().map_err(|_| EnqueueError::Full)?;
        self.enqueue(PipelineMessage::Ingest(chunk, slot, reservation))
    }

    /// Enqueues telemetry as soon as there is room.
    pub async fn ingest(&self, chunk: Chunk) -> Result<(), EnqueueError> {
        let slot = self.queue_slot().await?;
        self.enqueue(PipelineMessage::Ingest(chunk, slot, None))
    }

    /// Enqueues what the platform tells as soon as there is room. It comes as often as the platform likes, and so has no
    /// claim to the room of the driver's messages.
    pub async fn send_from_intake(&self, message: Control) {
        if let Ok(slot) = self.queue_slot().await {
            // With a pipeline that is gone there is nobody to tell.
            let _ = self.enqueue(PipelineMessage::FromIntake(message, slot));
        }
    }

    /// Enqueues a message of the driver. With a pipeline that is gone the message goes, and with it the sender within,
    /// which counts as answered.
    pub fn control(&self, message: Control) {
        let _ = self.enqueue(PipelineMessage::Control(message));
    }

    /// A pipeline that goes leaves its places behind, so that nobody waits for ever.
    async fn queue_slot(&self) -> Result<QueueSlot, EnqueueError> {
        Arc::clone(&self.room).acquire_owned().await.map_err(|_| EnqueueError::Gone)
    }

    fn enqueue(&self, message: PipelineMessage) -> Result<(), EnqueueError> {
        self.messages.try_send(message).map_err(|_| EnqueueError::Gone)
    }
}
