//! How fast one core decides and folds: `cargo run --release -p sillok-domain --example speed`.

use std::time::Instant;

use sillok_domain::{
    Attribute, Audience, Channel, Command, Consent, Context, FriendSource, Intent, MessageBody, Overlay, Rule,
    TimeWindow, decide, validate,
};

const FRIENDS: u32 = 1_000_000;
/// Events in flight before the overlay is told that they are folded.
const IN_FLIGHT: usize = 4_096;

/// A leader's way: decide over an overlay, fold, evict.
struct Leader {
    channel: Channel,
    overlay: Overlay,
    revision: u64,
}

impl Leader {
    /// Prints the fastest of many chunks: what the code costs, not what else the machine does.
    fn run(&mut self, name: &str, commands: &[Command]) {
        let mut fastest = [u128::MAX; 4];
        for commands in commands.chunks(IN_FLIGHT) {
            let from = self.revision;
            let mut events = Vec::with_capacity(commands.len());
            let mut marks = [Instant::now(); 5];
            commands.iter().for_each(|command| assert!(validate(command).is_ok()));
            marks[1] = Instant::now();
            for command in commands {
                let decided = decide(&self.overlay.over(&self.channel), command, 1);
                for event in decided.unwrap_or_else(|refusal| panic!("{refusal:?}")) {
                    self.revision += 1;
                    self.overlay.apply(&self.channel, self.revision, self.revision, 1, None, &event);
                    events.push(event);
                }
            }
            marks[2] = Instant::now();
            for (revision, event) in (from + 1..).zip(&events) {
                self.channel.apply(revision, 1, None, event);
            }
            marks[3] = Instant::now();
            self.overlay.evict(self.revision);
            marks[4] = Instant::now();
            for (fastest, mark) in fastest.iter_mut().zip(marks.windows(2)) {
                *fastest = (*fastest).min((mark[1] - mark[0]).as_nanos() / commands.len() as u128);
            }
        }
        let [validate, decide, fold, evict] = fastest;
        println!(
            "{name:<20} validate {validate:>6} ns   decide, lay over {decide:>8} ns   fold {fold:>8} ns   evict {evict:>6} ns"
        );
    }
}

fn command(intent: Intent) -> Command {
    let context = Context { retry_key: "key".into(), ..Context::default() };
    Command { channel_id: "shop".into(), context, intent }
}

fn key(number: u32) -> String {
    format!("user-{:019}", u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn main() {
    let mut leader = Leader { channel: Channel::new(), overlay: Overlay::new(), revision: 0 };
    leader.run("open", &[command(Intent::OpenChannel { name: "전국 가게".into() })]);
    let attribute = |key: &str, value: String| Attribute { key: key.into(), value };
    let adds: Vec<Command> = (1..=FRIENDS)
        .map(|number| {
            command(Intent::AddFriend {
                user_key: key(number),
                source: FriendSource::Import,
                attributes: vec![
                    attribute("age_band", format!("{}s", number % 9 * 10)),
                    attribute("gender", if number.is_multiple_of(2) { "f" } else { "m" }.into()),
                    attribute("grade", format!("g{}", number / 7 % 5)),
                    attribute("region", format!("region-{}", number / 3 % 17)),
                ],
                consents: if number.is_multiple_of(3) { vec![] } else { vec![Consent::Advertising] },
            })
        })
        .collect();
    leader.run("add a friend", &adds);
    let text = "오늘 저녁 여섯 시까지 오시면 커피 한 잔을 더 드립니다.".repeat(2);
    let body = |is_ad| MessageBody { text: format!("(광고) {text}"), is_ad, unit_price_won: 15 };
    let mixed = |number: u32| key(number.wrapping_mul(7_919) % FRIENDS + 1);
    let pushes: Vec<Command> = (0..500_000u32)
        .map(|number| command(Intent::SendPush { user_key: mixed(number), body: body(false) }))
        .collect();
    leader.run("push", &pushes);
    let define = Intent::DefineCoupon {
        coupon_id: "k".into(),
        name: "열 잔".into(),
        cap: 1_000_000_000,
        per_friend_limit: 10,
        window: TimeWindow::default(),
    };
    leader.run("define", &[command(define)]);
    let issues: Vec<Command> = (0..200_000u32)
        .map(|number| {
            let ticket_id = format!("ticket-{number}");
            command(Intent::IssueTicket { coupon_id: "k".into(), user_key: mixed(number), ticket_id })
        })
        .collect();
    leader.run("issue a ticket", &issues);
    let redeems: Vec<Command> =
        (0..200_000u32).map(|number| command(Intent::RedeemTicket { ticket_id: format!("ticket-{number}") })).collect();
    leader.run("redeem a ticket", &redeems);
    leader.run("broadcast", &vec![command(Intent::SendBroadcast { body: body(true) }); 20]);
    let issue = Intent::IssueTickets { coupon_id: "k".into(), audience: Audience::Rule(Rule::default()) };
    leader.run("issue to everybody", &vec![command(issue); 5]);
}
