//! What comes from the function's SDK, on its way to the pipeline.

use bytes::Bytes;

use crate::app::pipeline::{Handle, Refused};
use crate::core::chunk::{Chunk, Origin};
use crate::core::otlp;
use crate::core::signal::Signal;
use crate::edge::receiver::{Intake, Refusal};

/// The receiver's way into the pipeline. A malformed request ends here and spoils nothing else.
#[derive(Clone, Debug)]
pub struct SdkIntake(pub Handle);

impl Intake for SdkIntake {
    fn accept(&self, signal: Signal, bytes: Bytes) -> Result<(), Refusal> {
        let items = otlp::validate(signal, &bytes)?;
        if items == 0 {
            return Ok(());
        }
        match self.0.offer(Chunk { signal, bytes, items, origin: Origin::Sdk, invocation: None }) {
            Err(Refused::Full) => Err(Refusal::Busy),
            // Without a pipeline telemetry goes nowhere, and an SDK that repeats it would only take the function's time.
            Ok(()) | Err(Refused::Gone) => Ok(()),
        }
    }
}
