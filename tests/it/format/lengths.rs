//! Lengths that lie: under good checksums, fields claim four thousand million bytes, and decoders still allocate
//! no more than a small multiple of what they were given (I10).

use std::{env, process::Command};

use tierce_engine::{
    Damage,
    format::{
        checkpoint::{SECTION_END, decode_sections, encode_section},
        checksum::{checksum, checksum_from},
        footer::{FOOTER_TRAILER_BYTES, FooterEntries, Trailer},
        manifest::{Edit, FRAME_BYTES, decode_frame, encode_frame, frame_seed},
        record::{Flags, HEADER_BYTES, claimed_bytes, decode_head},
        segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader},
    },
};

use super::patched;

const HUGE: [u8; 4] = u32::MAX.to_le_bytes();

/// Most memory this process ever had mapped, in bytes; `None` where the system does not tell.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Runs the rest of the test that calls it in a process of its own, because the peak is the whole process's and
/// other tests would hide it. `true` in that process; the caller goes on only there.
fn is_alone(test: &str) -> bool {
    const MARK: &str = "TIERCE_TEST_ALONE";
    if env::var_os(MARK).is_some() {
        return true;
    }
    let this = env::current_exe().expect("a test binary knows itself");
    let name =
        format!("{}::{test}", module_path!().split_once("::").expect("a module of the binary").1);
    let run =
        Command::new(this).args(["--exact", &name, "--test-threads=1"]).env(MARK, "1").output();
    let output = run.expect("the test binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// Runs `deed` and fails if the process had to map `limit` bytes more than ever before.
#[track_caller]
fn assert_within<T>(limit: u64, deed: impl FnOnce() -> T) -> T {
    let before = peak_bytes();
    let result = deed();
    if let (Some(before), Some(after)) = (before, peak_bytes()) {
        assert!(after - before < limit, "I10: memory grew by {} bytes", after - before);
    }
    result
}

/// As [`assert_within`] 64 MiB: every huge length here is 4 GiB and up.
#[track_caller]
fn assert_modest<T>(deed: impl FnOnce() -> T) -> T {
    assert_within(64 << 20, deed)
}

/// Goal: the measure itself can fail.
#[test]
#[cfg(target_os = "linux")]
fn the_measure_notices() {
    if !is_alone("the_measure_notices") {
        return;
    }
    let peak = peak_bytes().expect("Linux tells");
    let bytes = usize::try_from(peak).expect("an address space") + (1 << 20);
    let big = || std::hint::black_box(vec![0u8; bytes]).len();
    assert!(std::panic::catch_unwind(|| assert_within(1 << 20, big)).is_err());
}

/// Goal: a record that claims 4 GiB is refused before anything is read or allocated.
#[test]
fn a_huge_record_is_refused() {
    if !is_alone("a_huge_record_is_refused") {
        return;
    }
    let mut record = vec![1; 64];
    record[5] = Flags::EXPIRES.with(Flags::EXTENDED).0;
    for (at, field) in [(8, &HUGE[..]), (6, &[0xff, 0xff]), (HEADER_BYTES + 8, &[0xff, 0xff])] {
        let bytes = patched(&record, at, field);
        let found = assert_modest(|| {
            decode_head(&bytes, 7, 4096).map(|_| ()).map_err(|error| error.damage)
        });
        assert_eq!(found, Err(Damage::Length), "field at {at}");
        assert!(claimed_bytes(&bytes) > Some(64));
    }
}

/// Goal: a header with 2^32 parents is refused.
#[test]
fn a_header_with_huge_counts_is_refused() {
    if !is_alone("a_header_with_huge_counts_is_refused") {
        return;
    }
    let sample = tierce_fuzz::samples::decode_segment_header().remove(0);
    let bytes = patched(&sample, 96, &HUGE);
    let sum = checksum(&bytes[..SEGMENT_HEADER_BYTES - 4]);
    let bytes = patched(&bytes, SEGMENT_HEADER_BYTES - 4, &sum.to_le_bytes());
    let found = assert_modest(|| SegmentHeader::decode(&bytes).map_err(|error| error.damage));
    assert_eq!(found, Err(Damage::Length));
}

/// Goal: a trailer that speaks of 2^32 entries or extension bytes is refused, by the file and by the body.
#[test]
fn a_footer_with_huge_counts_is_refused() {
    if !is_alone("a_footer_with_huge_counts_is_refused") {
        return;
    }
    let sample = tierce_fuzz::samples::decode_footer().remove(1);
    let (body, tail) = sample.split_at(sample.len() - FOOTER_TRAILER_BYTES);
    for at in [12, 76] {
        let tail = patched(tail, at, &HUGE);
        let tail = patched(&tail, 124, &checksum(&tail[..124]).to_le_bytes());
        let short =
            Trailer::decode(&tail, 4096 + 40 + sample.len() as u64).map_err(|error| error.damage);
        assert_eq!(short, Err(Damage::Length), "field at {at}");
        // A file that really is that long exists only as a claim: the body is what was read of it.
        let claimed = 4096 + 40 + FOOTER_TRAILER_BYTES as u64;
        let claimed =
            claimed + if at == 12 { u64::from(u32::MAX) * 24 } else { 24 + u64::from(u32::MAX) };
        let trailer = Trailer::decode(&tail, claimed).expect("it fits the claim");
        let found = assert_modest(|| {
            FooterEntries::decode(body, &trailer).map(|_| ()).map_err(|error| error.damage)
        });
        assert_eq!(found, Err(Damage::Length), "field at {at}");
    }
}

/// Goal: frames, edits and lists of segments that claim 2^32 bytes or 2^64 ids are refused.
#[test]
fn a_manifest_with_huge_counts_is_refused() {
    if !is_alone("a_manifest_with_huge_counts_is_refused") {
        return;
    }
    let property = Edit::Property { name: b"name".to_vec(), value: vec![0; 64] };
    let replace = Edit::Replace { inputs: Vec::new(), outputs: Vec::new(), at: Default::default() };
    let wide = u64::MAX.to_le_bytes();
    let cases = [
        (&property, 4, &HUGE[..], Damage::Length),
        (&property, FRAME_BYTES + 4, &HUGE, Damage::Truncated),
        (&property, FRAME_BYTES + 8, &wide, Damage::Truncated),
        (&replace, FRAME_BYTES + 16, &wide, Damage::Length),
    ];
    for (edit, at, field, damage) in cases {
        let mut bytes = Vec::new();
        encode_frame(std::slice::from_ref(edit), 1, 1, 64, &mut bytes);
        let bytes = patched(&bytes, at, field);
        let bytes =
            patched(&bytes, 0, &checksum_from(frame_seed(1, 64), &bytes[4..]).to_le_bytes());
        let found = assert_modest(|| decode_frame(&bytes, 1, 64).map_err(|error| error.damage));
        assert_eq!(found, Err(damage), "field at {at}");
    }
}

/// Goal: a section that claims more bytes than there are is refused, up to the largest number.
#[test]
fn a_checkpoint_with_huge_sections_is_refused() {
    if !is_alone("a_checkpoint_with_huge_sections_is_refused") {
        return;
    }
    let mut bytes = Vec::new();
    encode_section(1, &[0; 64], &mut bytes);
    encode_section(SECTION_END, &[], &mut bytes);
    for length in [1 << 32, u64::MAX / 2, u64::MAX - 7, u64::MAX] {
        let bytes = patched(&bytes, 8, &length.to_le_bytes());
        let found =
            assert_modest(|| decode_sections(&bytes).map(|_| ()).map_err(|error| error.damage));
        assert!(matches!(found, Err(Damage::Length | Damage::Truncated)), "{length}: {found:?}");
    }
}
