//! One call's commands on their way through the sequencer, and the answers collected for them.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sillok_wire::{errors, v1};
use tokio::sync::oneshot;

use super::{admission::Permit, lane::Lane};

/// What is asked of the acknowledgements of the sites.
pub(crate) trait Sites: Send + Sync + 'static {
    /// Sites known now to have flushed this entry: an honest lower bound.
    fn durability(&self, index: u64) -> v1::Durability;
    /// Returns once every voter's site has flushed it, or after `at_most`.
    fn wait_all(&self, index: u64, at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The answers of one call, collected in the order of its commands and given back together.
pub(crate) struct Frame {
    collected: Mutex<Collected>,
    lane: Option<Arc<Lane>>,
}

struct Collected {
    answers: Vec<v1::Answer>,
    expected: usize,
    /// Which answers wait, and for what.
    waits: Vec<(usize, AwaitSites)>,
    answer: Option<oneshot::Sender<Vec<v1::Answer>>>,
    /// Given back with the answer: what waits for sites takes room like anything else.
    permit: Option<Permit>,
}

/// An answer that is not given before every site has the entry, or time is up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwaitSites {
    /// Raft index of the entry.
    pub(crate) index: u64,
    /// Beyond the quorum.
    pub(crate) at_most: Duration,
}

impl Frame {
    pub(crate) fn new(
        expected: usize,
        lane: Option<Arc<Lane>>,
        permit: Option<Permit>,
    ) -> (Arc<Frame>, oneshot::Receiver<Vec<v1::Answer>>) {
        let (answer, answers) = oneshot::channel();
        let (gathered, waits) = (Vec::with_capacity(expected), Vec::new());
        let collected = Collected { answers: gathered, expected, waits, answer: Some(answer), permit };
        (Arc::new(Frame { collected: Mutex::new(collected), lane }), answers)
    }

    /// The next answers, each with what it waits for. With the last of them the call is answered, off this thread if any waits.
    pub(crate) fn deliver(
        &self,
        answers: impl IntoIterator<Item = (v1::Answer, Option<AwaitSites>)>,
        sites: &Arc<dyn Sites>,
    ) {
        let mut collected = self.collected.lock();
        for (answer, wait) in answers {
            let at = collected.answers.len();
            collected.waits.extend(wait.map(|wait| (at, wait)));
            collected.answers.push(answer);
        }
        if collected.answers.len() < collected.expected {
            return;
        }
        let answers = std::mem::take(&mut collected.answers);
        let waits = std::mem::take(&mut collected.waits);
        let answer = collected.answer.take();
        let permit = collected.permit.take();
        drop(collected);
        if let Some(lane) = &self.lane {
            lane.answered(answers.iter().all(is_definite));
        }
        let Some(answer) = answer else { return };
        if waits.is_empty() {
            // The caller may be gone; what was decided stands.
            let _ = answer.send(answers);
        } else {
            tokio::spawn(answer_when_everywhere(answer, answers, waits, permit, sites.clone()));
        }
    }
}

impl Frame {
    /// A planted bug: the call is answered before anything is recorded.
    pub(crate) fn answer_early(&self, answer: &v1::Answer) {
        let caller = self.collected.lock().answer.take();
        if let Some(caller) = caller {
            // The caller may be gone.
            let _ = caller.send(vec![answer.clone()]);
        }
    }
}

async fn answer_when_everywhere(
    answer: oneshot::Sender<Vec<v1::Answer>>,
    mut answers: Vec<v1::Answer>,
    waits: Vec<(usize, AwaitSites)>,
    mut permit: Option<Permit>,
    sites: Arc<dyn Sites>,
) {
    let begun = tokio::time::Instant::now();
    let everywhere = async {
        for (_, wait) in &waits {
            let left = wait.at_most.saturating_sub(begun.elapsed());
            sites.wait_all(wait.index, left).await;
        }
    };
    let hurried = async {
        match &mut permit {
            Some(permit) => permit.wait_for_sites().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = everywhere => {}
        () = hurried => {}
    }
    for (at, wait) in &waits {
        if let Some(v1::answer::Outcome::Receipt(receipt)) =
            answers.get_mut(*at).and_then(|answer| answer.outcome.as_mut())
        {
            receipt.name_sites(sites.durability(wait.index));
        }
    }
    let _ = answer.send(answers);
    drop(permit);
}

/// A receipt, a recorded refusal, or a fault that lies in the command: repeating it as it is gives the same.
pub(crate) fn is_definite(answer: &v1::Answer) -> bool {
    match &answer.outcome {
        Some(v1::answer::Outcome::Receipt(_)) => true,
        Some(v1::answer::Outcome::Error(status)) => {
            let code = tonic::Code::from_i32(status.code);
            !matches!(code, tonic::Code::Unavailable | tonic::Code::ResourceExhausted | tonic::Code::Unknown)
        }
        None => false,
    }
}

/// An answer that says why not.
pub(crate) fn refusing(problem: errors::Problem) -> v1::Answer {
    v1::Answer { outcome: Some(v1::answer::Outcome::Error(problem.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequencer::{Admission, Caller};

    /// Sites one of which is dark.
    struct OneIsDark;

    impl Sites for OneIsDark {
        fn durability(&self, _index: u64) -> v1::Durability {
            v1::Durability::default()
        }

        fn wait_all(&self, _index: u64, at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(tokio::time::sleep(at_most))
        }
    }

    fn receipt() -> v1::Answer {
        v1::Answer { outcome: Some(v1::answer::Outcome::Receipt(v1::Receipt::default())) }
    }

    /// A site was dark and a client asked for all sites: each of its commands left a task behind for a minute that nothing
    /// bounded, until the leader had no memory left.
    #[tokio::test(start_paused = true)]
    async fn what_waits_for_sites_takes_room_until_it_is_answered() {
        let admission = Admission::new(200);
        let sites: Arc<dyn Sites> = Arc::new(OneIsDark);
        let wait = AwaitSites { index: 1, at_most: Duration::from_secs(60) };
        let (frame, answers) = Frame::new(1, None, admission.admit(80, true, Caller::Call).ok());
        frame.deliver([(receipt(), Some(wait))], &sites);
        drop(frame);
        tokio::task::yield_now().await;
        assert_eq!((admission.used(), admission.undecided()), (80, 0));
        assert!(admission.admit(80, true, Caller::Call).is_err(), "it is bounded like everything else");
        assert_eq!(answers.await.unwrap().len(), 1);
        admission.idle().await;
        assert!(admission.admit(80, true, Caller::Call).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_does_not_wait_for_a_dark_site() {
        let admission = Admission::new(100);
        let sites: Arc<dyn Sites> = Arc::new(OneIsDark);
        let wait = AwaitSites { index: 1, at_most: Duration::from_secs(60) };
        let (frame, answers) = Frame::new(1, None, admission.admit(80, true, Caller::Call).ok());
        frame.deliver([(receipt(), Some(wait))], &sites);
        let begun = tokio::time::Instant::now();
        admission.close();
        admission.idle().await;
        assert!(answers.await.unwrap()[0].outcome.is_some(), "the receipt, with the sites so far");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
