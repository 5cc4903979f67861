//! The handle of the pipeline: puts telemetry and control messages into its queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use rotel_core::chunk::Chunk;
use rotel_core::delivery::budget::{ByteBudget, Reservation, ReserveError};
use rotel_core::delivery::cadence::DuringInvocation;
use rotel_core::lambda::correlation::InvokeTimes;
use rotel_core::lambda::lifecycle::FlushReason;
use rotel_core::lambda::xray::Header;

/// The maximum number of queued messages. The pipeline never waits for the network, so a full queue means that it is broken.
/// The bytes behind the messages count against the buffer as soon as the pipeline reads them.
pub(super) const QUEUE_LIMIT: usize = 1024;
/// The slots reserved for the driver's messages, so that telemetry cannot crowd them out.
pub(super) const CONTROL_RESERVE: usize = 16;

/// A message to the pipeline.
#[derive(Debug)]
pub(super) enum PipelineMessage {
    /// Telemetry, with the room reserved for it in the buffers.
    Ingest(Chunk, QueueSlot, Option<Reservation>),
    FromIntake(Control, QueueSlot),
    /// From the driver.
    Control(Control),
}

/// A message's slot in the queue, free again once the message is read.
pub(super) type QueueSlot = OwnedSemaphorePermit;

/// A control message from the driver or the intake.
#[derive(Debug)]
pub enum Control {
    /// The first `/next` has been sent: set the exporters up.
    SetUp,
    /// INVOKE or `platform.start` announced an invocation.
    InvocationStarted(InvocationStart),
    /// The function was killed during the invocation with this request id.
    CutOff(String),
    /// An invocation and all earlier ones have ended. May come late, when the next one is running.
    InvocationEnded {
        request_id: String,
        /// The time of the end, in nanoseconds since the epoch. A freeze may delay this message.
        at: u64,
    },
    /// An invocation begins.
    OpenWindow {
        /// The timing of sending during the invocation.
        during: DuringInvocation,
        /// True if a flush follows the end of the function, and then [`Control::CloseWindow`]. If not, the environment may
        /// freeze at any time without notice.
        held: bool,
    },
    /// The invocation has ended: nothing may be in flight.
    CloseWindow,
    /// No event announces the ends of invocations.
    KeepOpen(DuringInvocation),
    /// Send everything enqueued so far, and report when that is done or has failed.
    Flush {
        reason: FlushReason,
        /// The time at which the flush is cancelled.
        deadline: std::time::Instant,
        /// Sent when the flush is over. Dropped if it is cancelled or the pipeline is gone.
        done: oneshot::Sender<()>,
    },
    /// Cancel the flush: abort requests in flight and keep their batches.
    CancelFlush,
    /// The environment was restored from a snapshot: connections, secrets and the known state of backends are outdated.
    Restored,
    /// The process ends: report the items that are lost.
    Shutdown(oneshot::Sender<()>),
    /// The id of the environment is known.
    InstanceId(String),
    /// Drop this to show that the pipeline is alive.
    LivenessProbe(oneshot::Sender<()>),
}

/// An invocation that was announced.
#[derive(Debug)]
pub struct InvocationStart {
    pub request_id: String,
    /// The X-Ray trace header, if there is one.
    pub xray: Option<Header>,
    /// The times of INVOKE; `None` if `platform.start` announced the invocation.
    pub invoked: Option<InvokeTimes>,
}

/// A handle of the pipeline.
#[derive(Clone, Debug)]
pub struct Handle {
    messages: mpsc::Sender<PipelineMessage>,
    /// The slots for messages that are not the driver's. Counted by a semaphore, not by the queue: whoever waits for several
    /// slots of a queue holds those that become free meanwhile, and so the driver's.
    room: Arc<Semaphore>,
    wants_flush: Arc<AtomicBool>,
    budget: ByteBudget,
}

/// The reason why telemetry was not enqueued.
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

    /// Reserves room in the buffers for a request of this many bytes.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, ReserveError> {
        self.budget.reserve(bytes)
    }

    /// Enqueues telemetry if there is room in the queue.
    pub fn offer(&self, chunk: Chunk, reservation: Option<Reservation>) -> Result<(), EnqueueError> {
        if self.messages.is_closed() {
            return Err(EnqueueError::Gone);
        }
        let slot = Arc::clone(&self.room).try_acquire_owned().map_err(|_| EnqueueError::Full)?;
        self.enqueue(PipelineMessage::Ingest(chunk, slot, reservation))
    }

    /// Enqueues telemetry; waits for room.
    pub async fn ingest(&self, chunk: Chunk) -> Result<(), EnqueueError> {
        let slot = self.queue_slot().await?;
        self.enqueue(PipelineMessage::Ingest(chunk, slot, None))
    }

    /// Enqueues a message of the intake; waits for room. The platform decides how many of these come, so they may not use the
    /// driver's slots.
    pub async fn send_from_intake(&self, message: Control) {
        if let Ok(slot) = self.queue_slot().await {
            // If the pipeline is gone, nothing needs the message.
            let _ = self.enqueue(PipelineMessage::FromIntake(message, slot));
        }
    }

    /// Enqueues a message of the driver. If the pipeline is gone, the message is dropped with the sender in it, which counts as
    /// an answer.
    pub fn control(&self, message: Control) {
        let _ = self.enqueue(PipelineMessage::Control(message));
    }

    /// Waits for a slot. When the pipeline ends, its queued slots are freed, so nobody waits forever.
    async fn queue_slot(&self) -> Result<QueueSlot, EnqueueError> {
        Arc::clone(&self.room).acquire_owned().await.map_err(|_| EnqueueError::Gone)
    }

    fn enqueue(&self, message: PipelineMessage) -> Result<(), EnqueueError> {
        self.messages.try_send(message).map_err(|_| EnqueueError::Gone)
    }
}
