//! Who a send or an issue is for, drawn once.

use roaring::RoaringBitmap;

use super::friend;
use crate::{
    Audience, Consent, FriendStatus, FrozenAudience, Load, Reason, Refusal, Rule, Selector, Statuses, Summary,
};

/// An audience that may still shrink.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    pub(super) members: RoaringBitmap,
    excluded_without_consent: u64,
    excluded_blocked: u64,
}

impl Drawn {
    /// Every friend not blocked.
    pub(super) fn everybody(state: &impl Load) -> Drawn {
        Drawn::by(state, Selector::of(Statuses::FRIENDS), Selector::of(Statuses::BLOCKED))
    }

    /// What an audience means now.
    pub(super) fn draw(state: &impl Load, audience: &Audience) -> Result<Drawn, Refusal> {
        match audience {
            Audience::Rule(rule) => {
                let of = |statuses| Selector::of(statuses).matching(rule);
                Ok(Drawn::by(state, of(Statuses::FRIENDS), of(Statuses::BLOCKED)))
            }
            Audience::UserKeys(keys) => Drawn::named(state, keys),
        }
    }

    fn by(state: &impl Load, friends: Selector<'_>, blocked: Selector<'_>) -> Drawn {
        Drawn {
            members: state.select(&friends),
            excluded_blocked: state.select(&blocked).len(),
            excluded_without_consent: 0,
        }
    }

    fn named(state: &impl Load, keys: &[String]) -> Result<Drawn, Refusal> {
        let (mut members, mut blocked) = (RoaringBitmap::new(), RoaringBitmap::new());
        for (index, key) in keys.iter().enumerate() {
            let (number, friend) = friend::present(state, key).map_err(|mut refusal| {
                refusal.message = format!("user_keys[{index}]: {}", refusal.message);
                refusal.with("index", index)
            })?;
            match friend.status {
                FriendStatus::Blocked => blocked.insert(number),
                _ => members.insert(number),
            };
        }
        Ok(Drawn { members, excluded_blocked: blocked.len(), excluded_without_consent: 0 })
    }

    /// Leaves out who did not agree to advertisements.
    pub(super) fn consenting(mut self, state: &impl Load) -> Drawn {
        let all = self.members.len();
        self.members &= state.select(&Selector::of(Statuses::FRIENDS).consenting(Consent::Advertising));
        self.excluded_without_consent = all - self.members.len();
        self
    }

    /// Leaves these out; how many they were.
    pub(super) fn without(&mut self, numbers: &RoaringBitmap) -> u64 {
        let all = self.members.len();
        self.members -= numbers;
        all - self.members.len()
    }

    /// Fixed for ever, if there is anybody.
    pub(super) fn freeze(mut self, summary: &Summary) -> Result<FrozenAudience, Refusal> {
        if self.members.is_empty() {
            let message = format!(
                "nobody is left in the audience ({} blocked the channel, {} did not consent to advertisements)",
                self.excluded_blocked, self.excluded_without_consent
            );
            let refusal = Refusal::new(Reason::AudienceEmpty, message);
            return Err(refusal
                .with("excluded_blocked", self.excluded_blocked)
                .with("excluded_without_consent", self.excluded_without_consent));
        }
        self.members.optimize();
        Ok(FrozenAudience {
            members: self.members,
            as_of_revision: summary.revision,
            excluded_without_consent: self.excluded_without_consent,
            excluded_blocked: self.excluded_blocked,
        })
    }
}

/// The rule that is recorded with an audience; none for a given list.
pub(super) fn rule_of(audience: &Audience) -> Option<Rule> {
    match audience {
        Audience::Rule(rule) => Some(rule.clone()),
        Audience::UserKeys(_) => None,
    }
}
