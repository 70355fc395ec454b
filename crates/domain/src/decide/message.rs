//! Push, narrowcast, broadcast.

use super::{
    audience::{Drawn, rule_of},
    friend,
};
use crate::{AD_LABEL, Audience, Consent, Event, FrozenAudience, Load, MessageBody, Reason, Refusal, Summary};

pub(super) fn push(state: &impl Load, user_key: &str, body: &MessageBody) -> Result<Event, Refusal> {
    check_label(body)?;
    let friend_number = friend::not_blocked(state, user_key)?;
    let consents = state.friend(friend_number).map(|friend| friend.consents).unwrap_or_default();
    if body.is_ad && !consents.contains(Consent::Advertising) {
        let message = format!("friend {friend_number} has not consented to advertisements");
        return Err(Refusal::new(Reason::ConsentMissing, message).with("friend_number", friend_number));
    }
    let MessageBody { text, is_ad, unit_price_won } = body.clone();
    Ok(Event::PushAccepted { friend_number, text, is_ad, unit_price_won })
}

pub(super) fn narrowcast(
    state: &impl Load,
    summary: &Summary,
    audience: &Audience,
    body: &MessageBody,
) -> Result<Event, Refusal> {
    check_label(body)?;
    let frozen = freeze(state, summary, Drawn::draw(state, audience)?, body)?;
    let MessageBody { text, is_ad, unit_price_won } = body.clone();
    Ok(Event::NarrowcastAccepted { rule: rule_of(audience), audience: frozen, text, is_ad, unit_price_won })
}

pub(super) fn broadcast(state: &impl Load, summary: &Summary, body: &MessageBody) -> Result<Event, Refusal> {
    check_label(body)?;
    let audience = freeze(state, summary, Drawn::everybody(state), body)?;
    let MessageBody { text, is_ad, unit_price_won } = body.clone();
    Ok(Event::BroadcastAccepted { audience, text, is_ad, unit_price_won })
}

fn freeze(state: &impl Load, summary: &Summary, drawn: Drawn, body: &MessageBody) -> Result<FrozenAudience, Refusal> {
    let drawn = if body.is_ad { drawn.consenting(state) } else { drawn };
    drawn.freeze(summary)
}

fn check_label(body: &MessageBody) -> Result<(), Refusal> {
    if !body.is_ad || body.text.contains(AD_LABEL) {
        return Ok(());
    }
    let message = format!("the text of an advertisement must carry {AD_LABEL}");
    Err(Refusal::new(Reason::AdLabelMissing, message))
}
