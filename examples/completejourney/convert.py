#!/usr/bin/env python3
"""Turns the Complete Journey data set into commands, one canonical proto3 JSON object a line.

    python3 convert.py DATA_DIR > commands.jsonl
    sillok import commands.jsonl

household            friend, source import; demographics become the shop's own attributes
campaign             narrowcast to the households it addressed, at its first day
coupon code x campaign   coupon, redeemable from the campaign's first day to the end of its last
redemption           one ticket, issued on the campaign's first day and redeemed at its own date

What the data dates is a backfill with `occurredAt`; what it does not date (the channel, the friends) happens when it is
imported. Every command has a retry key of its own, so importing the file twice changes nothing.
"""

import argparse
import csv
import datetime
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

UNIT_PRICE_WON = 15
PER_FRIEND_LIMIT = 2

# Column of demographics.csv -> attribute of the shop's own. The data has no gender, region or grade.
ATTRIBUTES = {
    "age": "age",
    "income": "income",
    "home_ownership": "home",
    "marital_status": "marital",
    "household_size": "size",
    "household_comp": "household",
    "kids_count": "kids",
}


def rows(data_dir, name):
    with open(Path(data_dir) / name, newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)


def midnight(date):
    return f"{date}T00:00:00Z"


def day_after(date):
    return (datetime.date.fromisoformat(date) + datetime.timedelta(days=1)).isoformat()


def by_number(ids):
    return sorted(ids, key=lambda text: (int(text), text))


class Shop:
    """Reads the five files and yields commands in the order in which they can happen."""

    def __init__(self, data_dir, channel):
        self.channel = channel
        self.demographics = {row["household_id"]: row for row in rows(data_dir, "demographics.csv")}
        self.campaigns = {row["campaign_id"]: row for row in rows(data_dir, "campaign_descriptions.csv")}
        self.addressed = defaultdict(set)
        for row in rows(data_dir, "campaigns.csv"):
            self.addressed[row["campaign_id"]].add(row["household_id"])
        self.coupons = {(row["campaign_id"], row["coupon_upc"]) for row in rows(data_dir, "coupons.csv")}
        self.redemptions = sorted(
            rows(data_dir, "coupon_redemptions.csv"),
            key=lambda row: (row["redemption_date"], int(row["campaign_id"]), row["coupon_upc"], int(row["household_id"])),
        )

    def command(self, kind, retry_key, fields, date=None, time="00:00:00"):
        context = {"retryKey": retry_key, "actor": "completejourney"}
        if date is not None:
            context["occurredAt"] = f"{date}T{time}Z"
            context["backfill"] = True
        return {kind: {"context": context, "channelId": self.channel, **fields}}

    def commands(self):
        yield self.command("openChannel", "open", {"name": "완전한 여정 마트"})
        yield from self.friends()
        # A sale's own day decides; on the same day: sends, coupons and tickets first, then redemptions.
        dated = [(self.campaigns[id]["start_date"], 0, lambda id=id: self.campaign(id)) for id in by_number(self.campaigns)]
        dated += [(row["redemption_date"], 1, lambda row=row, id=id: [self.redeem(row, id)]) for row, id in self.tickets()]
        for _, _, make in sorted(dated, key=lambda entry: entry[:2]):
            yield from make()

    def friends(self):
        households = set(self.demographics).union(*self.addressed.values())
        households.update(row["household_id"] for row in self.redemptions)
        for household in by_number(households):
            known = self.demographics.get(household, {})
            attributes = [
                {"key": key, "value": known[column]} for column, key in ATTRIBUTES.items() if known.get(column)
            ]
            fields = {"userKey": household, "source": "FRIEND_SOURCE_IMPORT", "attributes": attributes}
            yield self.command("addFriend", f"friend-{household}", fields)

    def tickets(self):
        """Each redemption with the id of its ticket; a household that redeems one coupon twice has two."""
        seen = Counter()
        for row in self.redemptions:
            key = (row["campaign_id"], row["coupon_upc"], row["household_id"])
            seen[key] += 1
            yield row, "-".join((*key, str(seen[key])))

    def campaign(self, campaign):
        about = self.campaigns[campaign]
        start, end = about["start_date"], about["end_date"]
        audience = by_number(self.addressed[campaign])
        coupons = sorted(upc for id, upc in self.coupons if id == campaign)
        text = f"{about['campaign_type']} 행사 {campaign}: {start}부터 {end}까지, 쿠폰 {len(coupons)}종"
        body = {"text": text, "unitPriceWon": str(UNIT_PRICE_WON)}
        fields = {"audience": {"userKeys": {"userKeys": audience}}, "body": body}
        yield self.command("sendNarrowcast", f"campaign-{campaign}", fields, start)
        window = {"from": midnight(start), "until": midnight(day_after(end))}
        for upc in coupons:
            fields = {
                "couponId": f"{campaign}-{upc}",
                "name": f"행사 {campaign} 쿠폰 {upc}",
                "cap": str(len(audience) * PER_FRIEND_LIMIT),
                "perFriendLimit": PER_FRIEND_LIMIT,
                "window": window,
            }
            yield self.command("defineCoupon", f"coupon-{campaign}-{upc}", fields, start)
        for row, ticket in self.tickets():
            if row["campaign_id"] == campaign:
                fields = {
                    "couponId": f"{campaign}-{row['coupon_upc']}",
                    "userKey": row["household_id"],
                    "ticketId": ticket,
                }
                yield self.command("issueTicket", f"issue-{ticket}", fields, start)

    def redeem(self, row, ticket):
        return self.command("redeemTicket", f"redeem-{ticket}", {"ticketId": ticket}, row["redemption_date"], "12:00:00")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", help="the folder with the five CSV files")
    parser.add_argument("--channel", default="completejourney", help="channel id (default: %(default)s)")
    arguments = parser.parse_args()

    written, audience = Counter(), 0
    out = open(sys.stdout.fileno(), "w", encoding="utf-8", newline="\n", closefd=False)
    for command in Shop(arguments.data_dir, arguments.channel).commands():
        (kind, fields), = command.items()
        written[kind] += 1
        if kind == "sendNarrowcast":
            audience += len(fields["audience"]["userKeys"]["userKeys"])
        out.write(json.dumps(command, ensure_ascii=False, separators=(",", ":")) + "\n")
    out.flush()
    print(
        f"{sum(written.values()):,} commands: {written['addFriend']:,} friends, {written['sendNarrowcast']:,} narrowcasts to "
        f"{audience:,} recipients ({audience * UNIT_PRICE_WON:,}원), {written['defineCoupon']:,} coupons, "
        f"{written['issueTicket']:,} tickets issued, {written['redeemTicket']:,} redeemed",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
