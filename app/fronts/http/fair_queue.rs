//! The queue for the node: a fixed number of requests are at the node at once, and the others
//! follow in order of arrival. (A semaphore lets newcomers overtake: with 50 clients, one waited
//! half a minute where the median was a second.)

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The queue; see the module header.
#[derive(Clone)]
pub(super) struct FairQueue(Rc<RefCell<State>>);

struct State {
    /// Free places at the node.
    free: usize,
    /// Waiting requests by ticket, in order.
    waiting: VecDeque<(u64, Option<Waker>)>,
    tickets: u64,
}

impl State {
    fn wake_first(&mut self) {
        if self.free > 0
            && let Some(waker) = self.waiting.front_mut().and_then(|(_, waker)| waker.take())
        {
            waker.wake();
        }
    }
}

impl FairQueue {
    /// A queue for this many places at the node.
    pub(super) fn new(places: usize) -> FairQueue {
        FairQueue(Rc::new(RefCell::new(State {
            free: places,
            waiting: VecDeque::new(),
            tickets: 0,
        })))
    }

    /// The number of waiting requests.
    pub(super) fn waiting(&self) -> usize {
        self.0.borrow().waiting.len()
    }

    /// Joins the queue at once; the future resolves to a permit. Dropping it leaves the queue.
    pub(super) fn wait(&self) -> Waiting {
        let mut state = self.0.borrow_mut();
        state.tickets += 1;
        let ticket = state.tickets;
        state.waiting.push_back((ticket, None));
        Waiting { queue: self.clone(), ticket }
    }
}

/// A place in the queue.
pub(super) struct Waiting {
    queue: FairQueue,
    ticket: u64,
}

impl Future for Waiting {
    type Output = Permit;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let mut state = self.queue.0.borrow_mut();
        if state.free > 0 && state.waiting.front().is_some_and(|(ticket, _)| *ticket == self.ticket)
        {
            state.waiting.pop_front();
            state.free -= 1;
            state.wake_first();
            return Poll::Ready(Permit(self.queue.clone()));
        }
        if let Some((_, waker)) =
            state.waiting.iter_mut().find(|(ticket, _)| *ticket == self.ticket)
        {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.queue.0.borrow_mut();
        state.waiting.retain(|(ticket, _)| *ticket != self.ticket);
        state.wake_first();
    }
}

/// A place at the node, freed on drop.
pub(super) struct Permit(FairQueue);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.0.borrow_mut();
        state.free += 1;
        state.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use smol::future::{self, FutureExt};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        future::block_on(async { Some(future.await) }.or(async { None }))
    }

    #[test]
    fn whoever_came_first_is_next_and_nobody_overtakes() {
        let queue = FairQueue::new(1);
        let at_node = now(queue.wait()).unwrap();
        let (mut second, mut third, leaving) = (queue.wait(), queue.wait(), queue.wait());
        assert!(now(&mut second).is_none() && now(&mut third).is_none());
        assert_eq!(queue.waiting(), 3);
        drop(leaving);
        drop(at_node);
        assert!(now(queue.wait()).is_none(), "a newcomer overtakes");
        assert!(now(&mut third).is_none(), "the third overtakes");
        let at_node = now(second).unwrap();
        assert!(now(&mut third).is_none());
        drop(at_node);
        assert!(now(third).is_some());
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_turn_that_comes_wakes_whoever_is_first_and_passes_on_from_one_who_leaves() {
        future::block_on(async {
            let queue = FairQueue::new(2);
            let (first, second) = (queue.wait().await, queue.wait().await);
            let executor = smol::LocalExecutor::new();
            let given = Rc::new(RefCell::new(Vec::new()));
            let wait = |number: u32| {
                let (waiting, given) = (queue.wait(), given.clone());
                executor.spawn(async move {
                    let _turn = waiting.await;
                    given.borrow_mut().push(number);
                })
            };
            let (leaving, third, fourth) = (wait(3), wait(4), wait(5));
            while executor.try_tick() {}
            drop(leaving);
            drop((first, second));
            executor.run(async { (third.await, fourth.await) }).await;
            assert_eq!(*given.borrow(), [4, 5]);
        });
    }
}
