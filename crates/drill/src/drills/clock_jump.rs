//! Somebody sets the clock of the leader an hour ahead, and that of the next one an hour back, while coupons expire.

use std::time::{Duration, SystemTime};

use sillok_client::{
    WriteError,
    commands::{self, Conditions as _},
};
use sillok_wire::v1::{self, Reason};

use super::Drill;
use crate::{
    DrillError,
    faults::Faults,
    stage::{Stage, WRITES_BACK},
};

pub(super) const DRILL: Drill = Drill {
    name: "clock-jump",
    breaks: "the leader's clock jumps an hour ahead, then the next leader's an hour back, across a coupon's expiry",
    promises: "leadership goes to a node whose clock is right; what is valid stays valid, and what has expired stays expired",
    links: false,
    faults: true,
    scrubs: false,
    compose: false,
    script: |stage| Box::pin(script(stage)),
};

const CHANNEL: &str = "expiry";
const CUSTOMER: &str = "customer";
const HOUR_MS: i64 = 3_600_000;
/// Begins before an hour is over and ends long after the drill.
const VALID_FOR: Duration = Duration::from_secs(30 * 60);
const SOON: Duration = Duration::from_secs(2);

async fn script(stage: &mut Stage) -> Result<(), DrillError> {
    stage.go_on_for(0.2).await;
    let over_at = tickets(stage).await?;

    jump(stage, HOUR_MS, "ahead").await?;
    let kept = match redeem(stage, "valid").await {
        Ok(()) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    let promise =
        "A ticket that is valid for half an hour yet can be redeemed while the leader's clock is an hour ahead";
    stage.promise("valid-stays-valid", promise, kept);
    right_again(stage).await?;

    let left = over_at.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(100)).await;
    jump(stage, -HOUR_MS, "back").await?;
    let kept = match redeem(stage, "expired").await {
        Err(WriteError::Refused { reason: Reason::CouponWindowOver, .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(()) => Err("it was redeemed".to_owned()),
    };
    let promise = "A ticket that has expired cannot be redeemed while the leader's clock is an hour back";
    stage.promise("expired-stays-expired", promise, kept);
    right_again(stage).await
}

/// Two coupons and a ticket of each, `valid` and `expired`; when the second is over.
async fn tickets(stage: &mut Stage) -> Result<SystemTime, DrillError> {
    let now = SystemTime::now();
    stage.ask("a channel", commands::open_channel(CHANNEL, "만료").into()).await?;
    stage.ask("a friend", commands::add_friend(CHANNEL, CUSTOMER).into()).await?;
    for (name, until) in [("valid", now + VALID_FOR), ("expired", now + SOON)] {
        let window = Some(v1::TimeWindow { from: None, until: Some(until.into()) });
        let coupon = v1::DefineCouponRequest { window, ..commands::define_coupon(CHANNEL, name, name, 10) };
        stage.ask("a coupon", coupon.into()).await?;
        let ticket =
            v1::IssueTicketRequest { ticket_id: name.to_owned(), ..commands::issue_ticket(CHANNEL, name, CUSTOMER) };
        stage.ask("a ticket", ticket.into()).await?;
    }
    Ok(now + SOON)
}

async fn redeem(stage: &Stage, ticket: &str) -> Result<(), WriteError> {
    let redeem: v1::Command = commands::redeem_ticket(CHANNEL, ticket).into();
    stage.customer.execute(redeem.with_key(format!("redeem-{ticket}"))).await.map(drop)
}

async fn jump(stage: &mut Stage, clock_offset_ms: i64, direction: &str) -> Result<(), DrillError> {
    let leader = stage.leader().await?;
    stage.breaks(format!("the clock of {} jumps an hour {direction}", stage.name(leader)));
    stage.cluster.make_wrong(leader, Faults { clock_offset_ms, ..Faults::default() })?;
    stage.another_leads(leader).await?;
    stage.writes_go_on(WRITES_BACK).await?;
    stage.go_on_for(0.2).await;
    Ok(())
}

async fn right_again(stage: &mut Stage) -> Result<(), DrillError> {
    for id in stage.cluster.ids() {
        stage.cluster.make_wrong(id, Faults::default())?;
    }
    stage.redundant_again().await?;
    stage.mended("every clock is right again");
    stage.go_on_for(0.2).await;
    Ok(())
}
