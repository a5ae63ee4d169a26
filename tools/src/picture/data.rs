//! The figures of pictures as JSON.

use serde_json::{Map, Value, json};
use tierce_engine::{CellBytes, Evict, LastUses, SegmentMap};

use super::{
    Picture,
    history::History,
    kinds::KINDS,
    survey::{Contents, Survey},
};
use crate::{buckets::Buckets, encoding::Face, figures::great_json, look::check_json, text::hex};

/// Findings of the check that a page lists; the others are counted.
pub(super) const FINDINGS_MAX: usize = 500;
/// Segments that a page tells of one by one; the others are counted.
pub(super) const SEGMENTS_MAX: usize = 1_500;

/// The cells of a picture; of more than `most` segments only the first so many.
pub(super) fn map_json(picture: &Picture, most: usize) -> Value {
    let kinds: Vec<Value> = KINDS.iter().map(|kind| kind.name.into()).collect();
    let cell = |cell: &CellBytes| -> Value {
        KINDS.iter().map(|kind| (kind.of)(cell)).collect::<Vec<_>>().into()
    };
    let segment = |segment: &SegmentMap| {
        let cells: Vec<Value> = segment.cells.iter().map(cell).collect();
        json!({
            "id": segment.id.to_string(), "class": segment.class, "sealed": segment.sealed,
            "bytes": segment.bytes, "cells": cells,
        })
    };
    let segments: Vec<Value> = picture.segments.iter().take(most).map(segment).collect();
    let omitted = picture.segments.len() - segments.len();
    json!({
        "cell_bytes": picture.cell_bytes, "kinds": kinds, "segments": segments,
        "segments_omitted": omitted,
    })
}

/// Everything that the page shows, for programs.
pub(super) fn report_json(survey: &Survey, face: Face) -> Value {
    let check = survey.check.as_ref().map(|check| {
        let mut document = check_json(check);
        let listed = check.findings.len().min(FINDINGS_MAX);
        if let Some(Value::Array(findings)) = document.get_mut("findings") {
            findings.truncate(listed);
        }
        let omitted = (check.findings.len() - listed) as u64 + check.omitted;
        document["findings_omitted"] = omitted.into();
        document
    });
    let info = survey.info.as_ref().map(|info| {
        json!({
            "format": {"major": info.format_major, "minor": info.format_minor},
            "store_id": hex(&info.store_id), "created_ms": info.created.0, "clean": info.clean,
            "bytes": info.bytes, "quarantined": info.quarantined, "next_sequence": info.next_sequence.0,
        })
    });
    let mut document = json!({
        "type": "tierce-report", "version": 1, "tool": env!("CARGO_PKG_VERSION"), "dir": survey.dir,
        "info": info, "disk_free_bytes": survey.disk_free, "check": check,
        "error": survey.contents.as_ref().err(),
    });
    if let (Ok(contents), Some(object)) = (&survey.contents, document.as_object_mut()) {
        object.extend(contents_json(contents, face));
    }
    document
}

fn contents_json(contents: &Contents, face: Face) -> Map<String, Value> {
    let entries = &contents.entries;
    let stats = &contents.stats;
    let sums = contents.picture.segments.iter().map(SegmentMap::sum);
    let sum = sums.fold(CellBytes::default(), |sum, one| sum.plus(&one));
    let bytes: Map<_, _> =
        KINDS.iter().map(|kind| (kind.name.to_owned(), Value::from((kind.of)(&sum)))).collect();
    let histogram =
        |unit: &str, buckets: &Buckets| json!({"unit": unit, "buckets": buckets.json()});
    let mut lifetimes = histogram("seconds", &entries.lifetimes);
    lifetimes["never"] = entries.never.into();
    let greatest: Vec<Value> =
        entries.greatest.iter().map(|entry| great_json(entry, face)).collect();
    let document = json!({
        "now_ms": contents.now.0,
        "entries": entries.live,
        "unreadable_entries": entries.unreadable,
        "sequence": stats.sequence,
        "segments": stats.segments,
        "segment_bytes": sum.sum(),
        "bytes": bytes,
        "map": map_json(&contents.picture, SEGMENTS_MAX),
        "histograms": {
            "size": histogram("bytes", &entries.sizes),
            "ttl": lifetimes,
            "age": histogram("writes", &entries.ages),
            "recency": contents.uses.as_ref().map(uses_json),
        },
        "greatest": greatest,
        "compaction": History::of(contents).json(),
        "losses": contents.losses,
    });
    match document {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn uses_json(uses: &LastUses) -> Value {
    let buckets = Buckets::of(&uses.steps_ago).json();
    json!({"unit": "steps", "policy": policy(uses.policy), "buckets": buckets})
}

/// The word for a policy, as the options have it.
pub(super) const fn policy(policy: Evict) -> &'static str {
    match policy {
        Evict::Lru => "lru",
        Evict::S3Fifo => "s3-fifo",
        Evict::Fifo => "fifo",
        Evict::None => "none",
    }
}
