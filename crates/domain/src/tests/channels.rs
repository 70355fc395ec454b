use super::*;
use crate::ChannelStatus;

fn open() -> Intent {
    Intent::OpenChannel { name: "초록가게".into() }
}

fn suspend() -> Intent {
    Intent::SuspendChannel { reason: String::new() }
}

fn add() -> Intent {
    Intent::AddFriend { user_key: "new".into(), source: FriendSource::Ad, attributes: vec![], consents: vec![] }
}

#[test]
fn what_was_never_opened_is_not_found() {
    given([]).when(add()).refused(Reason::ChannelNotFound);
    given([]).when(Intent::ResumeChannel).refused(Reason::ChannelNotFound);
    given([]).when(open()).then(opened());
}

#[test]
fn a_channel_opens_once() {
    given([opened()]).when(open()).refused(Reason::ChannelAlreadyOpen);
    given([opened(), suspended()]).when(open()).refused(Reason::ChannelAlreadyOpen);
    given([opened(), closed()]).when(open()).refused(Reason::ChannelClosed);
}

#[test]
fn a_closed_channel_accepts_nothing() {
    for intent in [add(), suspend(), Intent::ResumeChannel, Intent::RenameChannel { name: "새 이름".into() }] {
        given([opened(), closed()]).when(intent).refused(Reason::ChannelClosed);
    }
    let import = Intent::ImportEvents { first_revision: 3, events: vec![crate::ImportedEvent::of(added(1, "a"))] };
    given([opened(), closed()]).when(import).refused(Reason::ChannelClosed);
}

#[test]
fn a_suspended_channel_refuses_sends_and_new_tickets() {
    let events = [opened(), added(1, "a"), coupon("k", 5, 0), suspended()];
    let all = Audience::Rule(Rule::default());
    let refused = [
        Intent::SendPush { user_key: "a".into(), body: news() },
        Intent::SendNarrowcast { audience: all.clone(), body: news() },
        Intent::SendBroadcast { body: news() },
        Intent::DefineCoupon {
            coupon_id: "m".into(),
            name: "m".into(),
            cap: 1,
            per_friend_limit: 0,
            window: TimeWindow::default(),
        },
        Intent::IssueTicket { coupon_id: "k".into(), user_key: "a".into(), ticket_id: String::new() },
        Intent::IssueTickets { coupon_id: "k".into(), audience: all },
        suspend(),
    ];
    for intent in refused {
        given(events.clone()).when(intent).refused(Reason::ChannelSuspended);
    }
}

#[test]
fn a_suspended_channel_takes_everything_else() {
    let events = [
        opened(),
        added(1, "a"),
        coupon("k", 5, 0),
        issued("k", "t", 1),
        issued("k", "u", 1),
        redeemed("k", "u", 1),
        suspended(),
    ];
    let reason = String::new;
    let accepted = [
        add(),
        Intent::BlockFriend { user_key: "a".into() },
        Intent::GrantConsent { user_key: "a".into(), consent: Consent::Night },
        Intent::RedeemTicket { ticket_id: "t".into() },
        Intent::ReverseRedemption { ticket_id: "u".into(), reason: reason() },
        Intent::VoidTicket { ticket_id: "t".into(), reason: reason() },
        Intent::CloseCoupon { coupon_id: "k".into(), reason: reason() },
        Intent::RenameChannel { name: "새 이름".into() },
        Intent::ResumeChannel,
        Intent::CloseChannel { reason: reason() },
    ];
    for intent in accepted {
        given(events.clone()).when(intent).accepted();
    }
}

#[test]
fn only_a_suspended_channel_resumes() {
    given([opened()]).when(Intent::ResumeChannel).refused(Reason::ChannelNotSuspended);
    given([opened(), suspended()]).when(Intent::ResumeChannel).then(Event::ChannelResumed);
    let (_, channel) = given([opened(), suspended()]).when(Intent::ResumeChannel).accepted();
    assert_eq!(channel.summary().unwrap().status, ChannelStatus::Open);
}

#[test]
fn an_expected_revision_is_kept_to() {
    given([opened(), added(1, "a")]).expecting(2).when(add()).accepted();
    given([opened(), added(1, "a")]).expecting(1).when(add()).refused_with(Reason::RevisionMismatch, "actual", "2");
    given([opened(), added(1, "a")]).expecting(1).when(add()).refused_with(Reason::RevisionMismatch, "expected", "1");
    given([]).expecting(1).when(open()).refused_with(Reason::RevisionMismatch, "actual", "0");
}

#[test]
fn a_backfill_is_of_the_past() {
    given([opened()]).at(10).backfill(10).when(add()).accepted();
    given([opened()]).at(10).backfill(11).when(add()).refused(Reason::OccurredInFuture);
}

#[test]
fn a_client_whose_clock_is_ahead_may_say_so_outside_a_backfill() {
    let mut given = given([opened()]).at(10);
    given.context.occurred_at = Some(11);
    given.when(add()).accepted();
}
