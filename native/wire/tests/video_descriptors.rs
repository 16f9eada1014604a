//! VP8, VP9 and AV1 dependency descriptors.

mod common;

use common::{Rng, hex};
use greenroom_wire::av1::{DecodeTargetIndication, DependencyDescriptor};
use greenroom_wire::vp8::{Descriptor, PictureId, Temporal};
use greenroom_wire::{WireError, vp9};

#[test]
fn vp8_forms() {
    let base = Descriptor::default();
    let table = [
        // No extension, start of a key frame.
        ("10 00", Descriptor { start_of_partition: true, keyframe: true, len: 1, ..base }),
        // The same, but an inter frame.
        ("10 01", Descriptor { start_of_partition: true, len: 1, ..base }),
        // Partition 3: the header bit is not a frame header.
        ("13 00", Descriptor { start_of_partition: true, partition: 3, len: 1, ..base }),
        // Short picture id.
        (
            "9080 7f 01",
            Descriptor { start_of_partition: true, picture_id: Some(PictureId::Short(127)), len: 3, ..base },
        ),
        // What browsers send: 15-bit picture id, TL0PICIDX, TID/Y/KEYIDX, not a reference.
        (
            "b0f0 ffff 42 a5 01",
            Descriptor {
                non_reference: true,
                start_of_partition: true,
                picture_id: Some(PictureId::Long(0x7fff)),
                tl0_pic_idx: Some(0x42),
                temporal: Some(Temporal { tid: 2, layer_sync: true }),
                key_idx: Some(5),
                len: 6,
                ..base
            },
        ),
    ];
    for (text, expected) in table {
        let payload = hex(text);
        let d = Descriptor::parse(&payload).unwrap();
        assert_eq!(d, expected, "{text}");
        let mut buf = [0; 8];
        let len = d.write(&mut buf).unwrap();
        assert_eq!(buf[..len], payload[..d.len], "{text}");
        for short in 0..payload.len() {
            assert_eq!(Descriptor::parse(&payload[..short]), Err(WireError::Truncated), "{text} cut to {short}");
        }
    }
}

#[test]
fn vp8_changes_may_change_the_length() {
    let mut d = Descriptor::parse(&hex("9080 05 01 aabbcc")).unwrap();
    d.picture_id = Some(PictureId::Long(300));
    d.tl0_pic_idx = Some(9);
    let mut out = [0; 5];
    assert_eq!(d.write(&mut out), Ok(5));
    assert_eq!(out.to_vec(), hex("90c0 812c 09"));
    assert_eq!(d.write(&mut out[..4]), Err(WireError::NoSpace));
}

#[test]
fn vp8_any_descriptor_round_trips() {
    let mut rng = Rng(4);
    for _ in 0..5000 {
        let d = Descriptor {
            non_reference: rng.chance(50),
            start_of_partition: rng.chance(50),
            partition: rng.below(8) as u8,
            picture_id: match rng.below(3) {
                0 => None,
                1 => Some(PictureId::Short(rng.below(128) as u8)),
                _ => Some(PictureId::Long(rng.below(1 << 15) as u16)),
            },
            tl0_pic_idx: rng.chance(50).then(|| rng.next() as u8),
            temporal: rng.chance(50).then(|| Temporal { tid: rng.below(4) as u8, layer_sync: rng.chance(50) }),
            key_idx: rng.chance(50).then(|| rng.below(32) as u8),
            keyframe: false,
            len: 0,
        };
        let mut buf = [0; 16];
        let len = d.write(&mut buf).unwrap();
        buf[len] = 1; // an inter frame follows
        assert_eq!(Descriptor::parse(&buf[..len + 1]), Ok(Descriptor { len, ..d }));
    }
}

#[test]
fn vp9_forms() {
    // Non-flexible key frame: I, L, B, V; two spatial layers with resolutions, picture group of one frame.
    let payload = hex("aa 8123 00 07 38 0140 00b4 0280 0168 01 04 01 00");
    let d = vp9::Descriptor::parse(&payload).unwrap();
    assert_eq!(d.picture_id, Some(0x123));
    assert!(d.keyframe() && d.start_of_frame && !d.end_of_frame);
    assert_eq!(d.layer.unwrap().tl0_pic_idx, Some(7));
    let s = d.scalability.unwrap();
    assert_eq!((s.spatial_layers, &s.resolutions[..2]), (2, &[(320, 180), (640, 360)][..]));
    assert_eq!(d.len, payload.len() - 1);

    // Flexible inter frame of T2 S1 with switching point and inter-layer prediction, two references.
    let payload = hex("fd 11 53 03 02 00");
    let d = vp9::Descriptor::parse(&payload).unwrap();
    assert_eq!((d.temporal(), d.spatial(), d.keyframe()), (2, 1, false));
    let layer = d.layer.unwrap();
    assert!(layer.switching_up && layer.inter_layer && layer.tl0_pic_idx.is_none());
    assert_eq!(d.len, 5);

    // The higher spatial layer of a key picture is not what a receiver can start with.
    assert!(!vp9::Descriptor::parse(&hex("28 02 01")).unwrap().keyframe());
    // Four references.
    assert_eq!(vp9::Descriptor::parse(&hex("50 03 03 03 02")), Err(WireError::Value));
    assert_eq!(vp9::Descriptor::parse(&[]), Err(WireError::Truncated));
}

/// Writes bits, most significant first, to make descriptors by the specification's own notation.
#[derive(Default)]
struct BitString(Vec<bool>);

impl BitString {
    fn f(&mut self, n: u32, v: u32) -> &mut Self {
        (0..n).rev().for_each(|i| self.0.push(v >> i & 1 == 1));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.chunks(8).map(|c| c.iter().enumerate().fold(0, |a, (i, b)| a | (*b as u8) << (7 - i))).collect()
    }
}

/// L1T2: templates 0 (T0 key), 1 (T0 delta), 2 (T1); decode targets T0 and T0+T1; one chain.
fn l1t2_keyframe(active: Option<u32>) -> Vec<u8> {
    let mut b = BitString::default();
    b.f(1, 1).f(1, 1).f(6, 10).f(16, 500); // start, end, template id, frame number
    b.f(1, 1).f(1, active.is_some() as u32).f(3, 0); // structure present, active mask, no custom parts
    b.f(6, 10).f(5, 1); // template id offset, two targets
    b.f(2, 0).f(2, 1).f(2, 3); // same layer, next temporal, end
    b.f(2, 2).f(2, 2).f(2, 3).f(2, 3).f(2, 0).f(2, 1); // indications: switch, required, not present + discardable
    b.f(1, 0).f(1, 1).f(4, 1).f(1, 0).f(1, 1).f(4, 0).f(1, 0); // references
    b.f(2, 0b10); // ns(3) = 1: one chain; the value 1 takes two bits, "10"
    b.f(4, 0).f(4, 2).f(4, 1); // chain distances; "protected by" takes no bits with one chain
    b.f(1, 1).f(16, 639).f(16, 359);
    if let Some(mask) = active {
        b.f(2, mask);
    }
    b.bytes()
}

#[test]
fn dependency_descriptor_with_structure() {
    let data = l1t2_keyframe(None);
    let d = DependencyDescriptor::parse(&data).unwrap();
    assert!(d.start_of_frame && d.end_of_frame && d.has_structure);
    assert_eq!((d.template_id, d.frame_number), (10, 500));
    let s = DependencyDescriptor::structure(&data).unwrap().unwrap();
    let layers: Vec<_> = s.templates().iter().map(|t| (t.spatial, t.temporal, t.has_references)).collect();
    assert_eq!(layers, [(0, 0, false), (0, 0, true), (0, 1, true)]);
    let targets: Vec<_> = s.decode_targets().iter().map(|t| (t.spatial, t.temporal)).collect();
    assert_eq!(targets, [(0, 0), (0, 1)]);
    assert_eq!(s.resolutions(), [(640, 360)]);
    let frame = DependencyDescriptor::frame(&data, &s).unwrap();
    assert_eq!(frame.active_targets, Some(0b11));
    assert_eq!(frame.indication(0), DecodeTargetIndication::Switch);

    let frame = DependencyDescriptor::frame(&l1t2_keyframe(Some(1)), &s).unwrap();
    assert_eq!(frame.active_targets, Some(1));
}

#[test]
fn dependency_descriptor_of_later_frames() {
    let s = DependencyDescriptor::structure(&l1t2_keyframe(None)).unwrap().unwrap();
    // Mandatory fields only: template 12, the T1 one.
    let data = hex("4c 01f5");
    let d = DependencyDescriptor::parse(&data).unwrap();
    assert_eq!((d.start_of_frame, d.end_of_frame, d.frame_number, d.has_structure), (false, true, 501, false));
    let frame = DependencyDescriptor::frame(&data, &s).unwrap();
    assert_eq!((frame.spatial, frame.temporal, frame.active_targets), (0, 1, None));
    assert_eq!(frame.indication(0), DecodeTargetIndication::NotPresent);
    assert_eq!(frame.indication(1), DecodeTargetIndication::Discardable);
    // Custom indications override the template's.
    let mut b = BitString::default();
    b.f(2, 3).f(6, 12).f(16, 502).f(2, 0).f(1, 1).f(2, 0).f(2, 3).f(2, 2);
    let frame = DependencyDescriptor::frame(&b.bytes(), &s).unwrap();
    assert_eq!(frame.indication(0), DecodeTargetIndication::Required);
    assert_eq!(frame.indication(1), DecodeTargetIndication::Switch);
    // A template of another structure.
    assert_eq!(DependencyDescriptor::frame(&hex("49 01f5"), &s), Err(WireError::Value));
}

#[test]
fn dependency_descriptor_cut_short() {
    let data = l1t2_keyframe(None);
    for len in 0..data.len() {
        match DependencyDescriptor::structure(&data[..len]) {
            Ok(None) => assert_eq!(len, 3),
            other => assert_eq!(other, Err(WireError::Truncated), "{len} bytes"),
        }
    }
}
