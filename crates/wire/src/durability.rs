//! `sillok.v1.Durability`, written by hand: thousands of receipts a second name the same sites, so these are encoded once, and
//! shared where receipts are cloned and where they are decoded.

use std::{cell::RefCell, fmt, ops::Deref, sync::Arc};

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut},
    encoding::{DecodeContext, WireType, bool, key_len, message, skip_field},
};

use crate::{fields::whole, v1::SiteDurability};

/// Field numbers in the contract.
const SITES: u32 = 1;
const ALL_SITES: u32 = 2;
const IS_RETRY: u32 = 3;

/// What is true of this answer and not of the command.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durability {
    /// Sites that had flushed the record when the answer was given: an honest lower bound.
    pub sites: Sites,
    /// Every voter's site is among them.
    pub all_sites: bool,
    /// This is the original answer given again.
    pub is_retry: bool,
}

/// Sites in their order; cheap to clone. Reads like a slice.
#[derive(Clone, Default)]
pub struct Sites {
    /// The first `count` of these; `None`: none.
    shared: Option<Arc<Encoded>>,
    count: usize,
}

/// Sites, and the bytes of each as a field of [`Durability`].
#[derive(Debug, Clone, Default)]
struct Encoded {
    sites: Vec<SiteDurability>,
    bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    ends: Vec<usize>,
}

impl Encoded {
    fn push(&mut self, site: SiteDurability) {
        message::encode(SITES, &site, &mut self.bytes);
        self.sites.push(site);
        self.ends.push(self.bytes.len());
    }

    fn end(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// The site at this place without key and length.
    fn body(&self, at: usize) -> Option<&[u8]> {
        let site = self.sites.get(at)?;
        self.bytes[..self.ends[at]].get(self.ends[at] - site.encoded_len()..)
    }
}

thread_local! {
    /// What was decoded last on this thread.
    static LAST: RefCell<Option<Arc<Encoded>>> = const { RefCell::new(None) };
}

impl Sites {
    fn bytes(&self) -> &[u8] {
        self.shared.as_ref().map_or(&[], |shared| &shared.bytes[..shared.end(self.count)])
    }

    /// One more by its encoded body, where it stands at this place of those decoded last.
    fn next_is_known(&mut self, body: &[u8]) -> bool {
        let known = match &self.shared {
            Some(shared) => Some(Arc::clone(shared)),
            None => LAST.with_borrow(Option::clone),
        };
        let known = known.filter(|known| known.body(self.count) == Some(body));
        if known.is_none() {
            return false;
        }
        self.shared = known;
        self.count += 1;
        true
    }

    /// One more, which is looked for from now on.
    fn push(&mut self, site: SiteDurability) {
        *self = self.iter().cloned().chain([site]).collect();
        LAST.set(self.shared.clone());
    }
}

impl FromIterator<SiteDurability> for Sites {
    fn from_iter<I: IntoIterator<Item = SiteDurability>>(sites: I) -> Sites {
        let mut encoded = Encoded::default();
        sites.into_iter().for_each(|site| encoded.push(site));
        Sites { count: encoded.sites.len(), shared: Some(Arc::new(encoded)) }
    }
}

impl Deref for Sites {
    type Target = [SiteDurability];

    fn deref(&self) -> &[SiteDurability] {
        self.shared.as_ref().map_or(&[], |shared| &shared.sites[..self.count])
    }
}

impl<'a> IntoIterator for &'a Sites {
    type Item = &'a SiteDurability;
    type IntoIter = std::slice::Iter<'a, SiteDurability>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Sites {
    fn eq(&self, other: &Sites) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Message for Durability {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(self.sites.bytes());
        for (field, set) in [(ALL_SITES, self.all_sites), (IS_RETRY, self.is_retry)] {
            if set {
                bool::encode(field, &set, buffer);
            }
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            SITES => {
                if wire_type == WireType::LengthDelimited
                    && let Some((head, body)) = whole(buffer.chunk())
                    && self.sites.next_is_known(body)
                {
                    buffer.advance(head + body.len());
                    return Ok(());
                }
                let mut site = SiteDurability::default();
                message::merge(wire_type, &mut site, buffer, context)?;
                self.sites.push(site);
                Ok(())
            }
            ALL_SITES => bool::merge(wire_type, &mut self.all_sites, buffer, context),
            IS_RETRY => bool::merge(wire_type, &mut self.is_retry, buffer, context),
            _ => skip_field(wire_type, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let flag = key_len(ALL_SITES) + 1;
        self.sites.bytes().len() + flag * (usize::from(self.all_sites) + usize::from(self.is_retry))
    }

    fn clear(&mut self) {
        *self = Durability::default();
    }
}

#[cfg(test)]
mod tests {
    use prost::bytes::Bytes;

    use super::*;

    /// As the generated code would have it.
    #[derive(Clone, PartialEq, Message)]
    struct Generated {
        #[prost(message, repeated, tag = "1")]
        sites: Vec<SiteDurability>,
        #[prost(bool, tag = "2")]
        all_sites: bool,
        #[prost(bool, tag = "3")]
        is_retry: bool,
    }

    fn site(name: &str, nodes: &[u64]) -> SiteDurability {
        SiteDurability { site: name.to_owned(), nodes: nodes.to_vec() }
    }

    fn lists() -> Vec<Vec<SiteDurability>> {
        let (chungju, jeonju, seongju) = (site("chungju", &[1]), site("jeonju", &[2, 5]), site("seongju", &[3]));
        vec![
            vec![],
            vec![chungju.clone()],
            vec![chungju.clone(), jeonju.clone()],
            vec![chungju.clone(), jeonju.clone(), seongju.clone()],
            vec![chungju.clone(), seongju.clone()],
            vec![seongju, chungju.clone(), jeonju],
            vec![SiteDurability::default(), chungju],
        ]
    }

    /// Each after each other one, since what was decoded before is what a list is compared with.
    #[test]
    fn it_is_the_message_of_the_contract() {
        for before in lists() {
            for list in lists() {
                for (all_sites, is_retry) in [(false, false), (true, false), (false, true), (true, true)] {
                    let generated = Generated { sites: list.clone(), all_sites, is_retry };
                    let ours = Durability { sites: list.iter().cloned().collect(), all_sites, is_retry };
                    let bytes = generated.encode_to_vec();
                    assert_eq!((ours.encode_to_vec(), ours.encoded_len()), (bytes.clone(), bytes.len()));
                    let others = Durability { sites: before.iter().cloned().collect(), ..Durability::default() };
                    assert_eq!(Durability::decode(&*others.encode_to_vec()).unwrap(), others);
                    assert_eq!(Durability::decode(&*bytes).unwrap(), ours);
                    // In two parts, wherever it is cut.
                    for cut in 0..=bytes.len() {
                        let (front, back) = bytes.split_at(cut);
                        let parts = Bytes::copy_from_slice(front).chain(Bytes::copy_from_slice(back));
                        assert_eq!(Durability::decode(parts).unwrap(), ours);
                    }
                }
            }
        }
    }

    /// A list that goes on as the one before began, in a receipt behind which another one stands.
    #[test]
    fn what_stands_behind_it_is_not_taken_for_part_of_it() {
        let long: Sites = [site("a", &[]), site("b", &[])].into_iter().collect();
        let short: Sites = [site("a", &[])].into_iter().collect();
        let receipt = |sites| crate::v1::Receipt {
            durability: Some(Durability { sites, ..Durability::default() }),
            ..crate::v1::Receipt::default()
        };
        Durability::decode(&*Durability { sites: long.clone(), ..Durability::default() }.encode_to_vec()).unwrap();
        let answers = |sites: [&Sites; 2]| crate::v1::SubmitResponse {
            answers: sites
                .map(|sites| crate::v1::Answer {
                    outcome: Some(crate::v1::answer::Outcome::Receipt(receipt(sites.clone()))),
                })
                .to_vec(),
        };
        for sites in [[&short, &long], [&long, &short], [&short, &short]] {
            let response = answers(sites);
            assert_eq!(crate::v1::SubmitResponse::decode(&*response.encode_to_vec()).unwrap(), response);
        }
    }

    #[test]
    fn what_is_malformed_is_an_error_and_what_is_unknown_is_skipped() {
        let whole = Durability { sites: lists().remove(3).into_iter().collect(), all_sites: true, is_retry: false };
        let bytes = whole.encode_to_vec();
        for cut in 1..bytes.len() {
            // Cut between two fields it is a shorter message; else none.
            if let Ok(decoded) = Durability::decode(&bytes[..cut]) {
                assert_eq!(decoded.encode_to_vec(), &bytes[..cut]);
            }
        }
        assert!(Durability::decode(&[8, 1][..]).is_err(), "sites as a number");
        assert!(Durability::decode(&[10, 200][..]).is_err(), "a length without an end");
        let mut longer = bytes;
        longer.extend([0x78, 1]);
        assert_eq!(Durability::decode(&*longer).unwrap(), whole, "field 15 is of a later version");
    }
}
