//! A channel that is bounded by the bytes in it, not only by the number of its messages: one large
//! row is a batch by itself, and a few of them would be all the memory that a migration may take.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What room is counted in.
const UNIT_BYTES: usize = 1 << 10;

/// The receiver is gone: it has stopped listening on purpose, or with an error of its own.
#[derive(Debug)]
pub(super) struct Gone;

/// Where messages are put, by one or several.
pub(super) struct Sender<T> {
    messages: mpsc::Sender<(T, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
    units: u32,
}

/// Where they are taken. The message that was taken last counts as one in the channel until the next
/// is asked for.
pub(super) struct Receiver<T> {
    messages: mpsc::Receiver<(T, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
    in_hand: Option<OwnedSemaphorePermit>,
}

/// A channel for `ahead` messages beside the one in the receiver's hand, of `bytes` each. A message
/// that is larger takes the room of several.
pub(super) fn channel<T>(ahead: usize, bytes: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(ahead);
    let units = u32::try_from((ahead + 1) * bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    let room = Arc::new(Semaphore::new(units as usize));
    let sender = Sender {
        messages: sender,
        room: Arc::clone(&room),
        units,
    };
    let receiver = Receiver {
        messages: receiver,
        room,
        in_hand: None,
    };
    (sender, receiver)
}

impl<T> Sender<T> {
    /// Waits until there is room; with a message that takes all of it, also until the receiver is
    /// done with that, so that nobody makes the next one meanwhile.
    ///
    /// # Errors
    ///
    /// [`Gone`] if nobody will take the message.
    pub async fn send(&self, message: T, bytes: usize) -> Result<(), Gone> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let units = units.min(self.units);
        let permit = match units {
            0 => None,
            units => {
                let room = Arc::clone(&self.room);
                let permit = room.acquire_many_owned(units).await;
                Some(permit.map_err(|_| Gone)?)
            }
        };
        let sent = self.messages.send((message, permit)).await;
        sent.map_err(|_| Gone)?;
        if units == self.units {
            let room = self.room.acquire_many(units).await;
            drop(room.map_err(|_| Gone)?);
        }
        Ok(())
    }

    /// [`Sender::send`] from a thread that may wait; one of the runtime's own.
    pub fn blocking_send(&self, message: T, bytes: usize) -> Result<(), Gone> {
        Handle::current().block_on(self.send(message, bytes))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            messages: self.messages.clone(),
            room: Arc::clone(&self.room),
            units: self.units,
        }
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` if there are no more senders. Dropping a call that waits loses none.
    pub async fn recv(&mut self) -> Option<T> {
        self.in_hand = None;
        let (message, permit) = self.messages.recv().await?;
        self.in_hand = permit;
        Some(message)
    }

    /// [`Receiver::recv`] on a thread that may wait.
    pub fn blocking_recv(&mut self) -> Option<T> {
        self.in_hand = None;
        let (message, permit) = self.messages.blocking_recv()?;
        self.in_hand = permit;
        Some(message)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Whoever waits for room learns that there is nobody to wait for.
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Sends a message if there is room for it now.
    async fn is_sent(sender: &Sender<u8>, bytes: usize) -> bool {
        let sent = timeout(Duration::from_millis(50), sender.send(0, bytes)).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    #[tokio::test]
    async fn one_large_message_is_on_its_way_at_a_time() {
        const LARGE: usize = 1 << 30;
        let soon = Duration::from_millis(50);
        let (sender, mut receiver) = channel(2, 10 << 10);
        let mut large = std::pin::pin!(sender.send(0, LARGE));
        assert!(timeout(soon, &mut large).await.is_err());
        assert!(!is_sent(&sender, 1).await);
        // The one in hand counts until the next is asked for.
        assert!(receiver.recv().await.is_some());
        assert!(timeout(soon, &mut large).await.is_err());
        assert!(timeout(soon, receiver.recv()).await.is_err());
        assert!(large.await.is_ok() && is_sent(&sender, 1).await);
    }

    #[tokio::test]
    async fn small_messages_are_bounded_by_their_number() {
        let (sender, mut receiver) = channel(2, 10 << 10);
        for _ in 0..2 {
            assert!(is_sent(&sender, 1 << 10).await);
        }
        assert!(!is_sent(&sender, 1 << 10).await);
        assert!(receiver.recv().await.is_some() && is_sent(&sender, 1 << 10).await);
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_that_the_receiver_is_gone() {
        let (sender, receiver) = channel(1, 1 << 10);
        sender.send(0, 1 << 10).await.unwrap();
        let waiting = tokio::spawn(async move { sender.send(1, 2 << 10).await });
        tokio::task::yield_now().await;
        drop(receiver);
        let sent = timeout(Duration::from_secs(5), waiting).await;
        assert!(sent.unwrap().unwrap().is_err());
    }
}
