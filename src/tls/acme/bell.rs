//! The bell of a keeper.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// What a keeper can be told.
#[derive(Debug, Default)]
pub(super) struct Bell {
    notify: Notify,
    is_forced: AtomicBool,
}

impl Bell {
    /// Has the storage looked at now.
    pub(super) fn look(&self) {
        self.notify.notify_one();
    }

    /// Has the certificate renewed now, whatever its schedule says.
    pub(super) fn force(&self) {
        self.is_forced.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// Whether it is to be renewed whatever its schedule says.
    pub(super) fn is_forced(&self) -> bool {
        self.is_forced.load(Ordering::Relaxed)
    }

    /// What was to be renewed is being renewed.
    pub(super) fn is_heard(&self) {
        self.is_forced.store(false, Ordering::Relaxed);
    }

    /// Waits until somebody rings.
    pub(super) async fn rung(&self) {
        self.notify.notified().await;
    }
}
