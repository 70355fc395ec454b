//! The contract only grows: nothing that a release had may be renamed, renumbered, retyped or removed.
//!
//! `golden/contract.bin` holds the descriptors of the last release. At a release it is replaced by those of today.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use sillok_wire::DESCRIPTORS;
use support::golden;

/// What clients and disks know; nodes of one cluster are upgraded together with `sillok.peer.v1`.
const PACKAGES: [&str; 2] = ["sillok.v1", "sillok.record.v1"];

fn today() -> FileDescriptorSet {
    let mut all = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    all.file.retain(|file| PACKAGES.contains(&file.package()));
    for file in &mut all.file {
        // Comments may change.
        file.source_code_info = None;
    }
    all
}

/// Everything that others rely on, one line each: its path, and what may not change about it.
fn lines(all: &FileDescriptorSet) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for file in &all.file {
        let package = file.package();
        for message in &file.message_type {
            message_lines(package, message, &mut lines);
        }
        for enumeration in &file.enum_type {
            enum_lines(package, enumeration, &mut lines);
        }
        for service in &file.service {
            for method in &service.method {
                let name = format!("{package}.{}.{}", service.name(), method.name());
                let (asks, answers) = (method.client_streaming(), method.server_streaming());
                lines.insert(name, format!("{} {asks} {} {answers}", method.input_type(), method.output_type()));
            }
        }
    }
    lines
}

fn message_lines(parent: &str, message: &DescriptorProto, lines: &mut BTreeMap<String, String>) {
    let name = format!("{parent}.{}", message.name());
    for field in &message.field {
        let choice = field.oneof_index.and_then(|index| message.oneof_decl.get(index as usize));
        let choice = choice.map_or("", |choice| choice.name());
        let what = format!(
            "{} {:?} {:?} {} {choice} {}",
            field.name(),
            field.r#type(),
            field.label(),
            field.type_name(),
            field.proto3_optional()
        );
        lines.insert(format!("{name} field {}", field.number()), what);
    }
    for nested in &message.nested_type {
        message_lines(&name, nested, lines);
    }
    for nested in &message.enum_type {
        enum_lines(&name, nested, lines);
    }
    lines.insert(name, "message".into());
}

fn enum_lines(parent: &str, enumeration: &EnumDescriptorProto, lines: &mut BTreeMap<String, String>) {
    let name = format!("{parent}.{}", enumeration.name());
    for value in &enumeration.value {
        lines.insert(format!("{name} value {}", value.number()), value.name().into());
    }
}

fn breaks(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let new = lines(new);
    let old = lines(old).into_iter();
    old.filter_map(|(path, was)| match new.get(&path) {
        None => Some(format!("{path} ({was}) is gone")),
        Some(is) if *is != was => Some(format!("{path} was {was} and is {is}")),
        Some(_) => None,
    })
    .collect()
}

#[test]
fn nothing_released_has_changed() {
    let today = today();
    let released = golden("contract.bin", &today.encode_to_vec());
    let released = FileDescriptorSet::decode(&released[..]).unwrap();
    assert!(released.file.len() >= 6, "the snapshot is not empty");
    assert_eq!(breaks(&released, &today), Vec::<String>::new());
}

#[test]
fn every_kind_of_break_is_noticed() {
    type Change = fn(&mut FileDescriptorSet);
    let changes: [(&str, Change); 6] = [
        ("a removed field", |all| {
            all.file[0].message_type[0].field.remove(0);
        }),
        ("a renumbered field", |all| all.file[0].message_type[0].field[0].number = Some(99)),
        ("a renamed field", |all| all.file[0].message_type[0].field[0].name = Some("other".into())),
        ("another type", |all| all.file[0].message_type[0].field[0].r#type = Some(9)),
        ("a renamed value", |all| {
            let file = all.file.iter_mut().find(|file| !file.enum_type.is_empty()).unwrap();
            file.enum_type[0].value[1].name = Some("OTHER".into());
        }),
        ("a removed method", |all| {
            let file = all.file.iter_mut().find(|file| !file.service.is_empty()).unwrap();
            file.service[0].method.remove(0);
        }),
    ];
    for (what, change) in changes {
        let mut changed = today();
        change(&mut changed);
        assert_ne!(breaks(&today(), &changed), Vec::<String>::new(), "{what} went unnoticed");
    }
}

#[test]
fn an_addition_is_no_break() {
    let mut grown = today();
    let mut field = grown.file[0].message_type[0].field[0].clone();
    field.number = Some(1000);
    field.name = Some("new_field".into());
    grown.file[0].message_type[0].field.push(field);
    assert_eq!(breaks(&today(), &grown), Vec::<String>::new());
}
