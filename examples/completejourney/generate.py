#!/usr/bin/env python3
"""Writes synthetic files of the same names, columns and figures as the Complete Journey data set.

    python3 generate.py DATA_DIR [--seed N]
    python3 convert.py DATA_DIR > commands.jsonl

For machines without the real data. Nothing here is a real household, coupon or redemption: the counts for each campaign are
those of the original, who is addressed by what and redeems when comes from the seed. The same seed writes the same bytes.
"""

import argparse
import csv
import datetime
import random
from pathlib import Path

# Audience, coupon codes, redemptions, first day and length in days, of each campaign from 1 on.
CAMPAIGNS = [
    (13, 11, 1, "2017-03-03", 38), (48, 16, 5, "2017-03-08", 33), (12, 34, 2, "2017-03-13", 57),
    (81, 12, 11, "2017-03-29", 33), (166, 11, 13, "2017-04-03", 35), (65, 1, 1, "2017-04-19", 33),
    (198, 8, 7, "2017-04-24", 35), (1076, 209, 372, "2017-05-08", 49), (176, 18, 43, "2017-05-31", 33),
    (123, 14, 15, "2017-06-28", 33), (214, 13, 8, "2017-07-12", 47), (170, 15, 26, "2017-07-12", 33),
    (1077, 207, 629, "2017-08-08", 48), (224, 26, 34, "2017-09-04", 66), (17, 2, 2, "2017-09-20", 162),
    (188, 13, 43, "2017-10-04", 33), (202, 19, 45, "2017-10-18", 33), (1133, 209, 653, "2017-10-30", 56),
    (130, 11, 29, "2017-11-15", 33), (244, 24, 22, "2017-11-27", 71), (65, 16, 3, "2017-12-06", 33),
    (276, 21, 43, "2017-12-06", 33), (183, 18, 8, "2017-12-28", 39), (12, 27, 0, "2016-11-14", 64),
    (17, 28, 1, "2016-12-06", 62), (118, 33, 22, "2016-12-28", 54), (361, 181, 64, "2017-02-08", 47),
]
HOUSEHOLDS, ADDRESSED, WITH_DEMOGRAPHICS, SECOND_TICKETS = 1604, 1559, 801, 27
VALUES = {
    "age": ["19-24", "25-34", "35-44", "45-54", "55-64", "65+"],
    "income": ["Under 15K", "15-24K", "25-34K", "35-49K", "50-74K", "75-99K", "100-124K", "125-149K", "250K+"],
    "home_ownership": ["Homeowner", "Renter", "Probable Renter", ""],
    "marital_status": ["Married", "Unmarried", ""],
    "household_size": ["1", "2", "3", "4", "5+"],
    "household_comp": ["1 Adult Kids", "1 Adult No Kids", "2 Adults Kids", "2 Adults No Kids"],
    "kids_count": ["0", "1", "2", "3+"],
}


def audiences(random, addressed):
    """Households of each campaign. Together the audiences hold every addressed household at least once."""
    chosen = [set(random.sample(addressed, size)) for size, *_ in CAMPAIGNS]
    missing = [household for household in addressed if not any(household in audience for audience in chosen)]
    largest = max(chosen, key=len)
    elsewhere = [h for h in sorted(largest, key=int) if any(h in other for other in chosen if other is not largest)]
    for household, gives_way in zip(missing, random.sample(elsewhere, len(missing))):
        largest.remove(gives_way)
        largest.add(household)
    return chosen


def redemptions(random, campaign, audience, codes, count, seconds, start, days):
    """`count` dated redemptions, `seconds` of them the second of one household and code, on another day."""
    households = sorted(audience, key=int)
    pairs = set()
    while len(pairs) < count - seconds:
        pairs.add((random.choice(households), random.choice(codes)))
    for number, (household, code) in enumerate(sorted(pairs)):
        on = random.sample(range(days), 2) if number < seconds else [random.randrange(days)]
        for day in on:
            yield household, code, campaign, (start + datetime.timedelta(days=day)).isoformat()


def write(data_dir, name, header, rows):
    with open(data_dir / name, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path, help="where to write; made if absent")
    parser.add_argument("--seed", type=int, default=1592, help="default: %(default)s")
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    arguments.data_dir.mkdir(parents=True, exist_ok=True)

    households = [str(id) for id in sorted(dice.sample(range(1, 2501), HOUSEHOLDS))]
    addressed = sorted(dice.sample(households, ADDRESSED), key=int)
    never_addressed = [household for household in households if household not in set(addressed)]
    described = never_addressed + dice.sample(addressed, WITH_DEMOGRAPHICS - len(never_addressed))
    codes = [str(code) for code in dice.sample(range(10_000_000_000, 60_000_000_000), 1100)]

    descriptions, addresses, coupons, redeemed = [], [], [], []
    for number, (shape, audience) in enumerate(zip(CAMPAIGNS, audiences(dice, addressed)), start=1):
        size, coupon_count, redemption_count, first_day, days = shape
        start = datetime.date.fromisoformat(first_day)
        kind = "Type A" if size > 300 else "Type C" if days > 50 else "Type B"
        end = start + datetime.timedelta(days=days - 1)
        descriptions.append((number, kind, start, end))
        addresses += [(number, household) for household in sorted(audience, key=int)]
        of_campaign = sorted(dice.sample(codes, coupon_count))
        # The original lists a code once for each product it covers.
        coupons += [(code, product, number) for code in of_campaign for product in dice.sample(range(10**7), 3)]
        seconds = SECOND_TICKETS if size == max(shape[0] for shape in CAMPAIGNS) else 0
        redeemed += redemptions(dice, number, audience, of_campaign, redemption_count, seconds, start, days)

    described_rows = [(h, *(dice.choice(values) for values in VALUES.values())) for h in sorted(described, key=int)]
    write(arguments.data_dir, "demographics.csv", ["household_id", *VALUES], described_rows)
    write(arguments.data_dir, "campaigns.csv", ["campaign_id", "household_id"], addresses)
    write(
        arguments.data_dir,
        "campaign_descriptions.csv",
        ["campaign_id", "campaign_type", "start_date", "end_date"],
        descriptions,
    )
    write(arguments.data_dir, "coupons.csv", ["coupon_upc", "product_id", "campaign_id"], coupons)
    write(
        arguments.data_dir,
        "coupon_redemptions.csv",
        ["household_id", "coupon_upc", "campaign_id", "redemption_date"],
        sorted(redeemed, key=lambda row: (row[3], int(row[0]), row[1])),
    )
    print(f"synthetic data of seed {arguments.seed} in {arguments.data_dir}")


if __name__ == "__main__":
    main()
