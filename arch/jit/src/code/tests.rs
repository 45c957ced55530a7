//! The shared code space by itself: what is found, linked, taken out and used again.

use super::*;
use crate::t1::builder::Mode;

const HIGH: u64 = 0xffff_8000_0000_0000;

struct Space {
    code: CodeSpace,
    ram: cpu::Ram,
    epochs: CodeEpochs,
    filling: Filling,
}

fn space(vcpus: usize, bytes: usize) -> Space {
    space_with(vcpus, bytes, true)
}

fn space_with(vcpus: usize, bytes: usize, huge: bool) -> Space {
    let host = Box::leak(vec![0u8; 65 << 12].into_boxed_slice()).as_mut_ptr();
    let host = host.wrapping_add(host.align_offset(4096));
    // SAFETY: leaked memory, page aligned, 64 pages long.
    let ram = unsafe { cpu::Ram::new(&[(0, 64 << 12, host)]) }.expect("aligned");
    let code = CodeSpace::new(vcpus, 64, bytes, huge, |_| Ok((vec![0xc3], Thunks::default()))).expect("maps");
    let filling = code.next_chunk(None, &mut 0).expect("fresh");
    Space { code, epochs: CodeEpochs::new(&ram), ram, filling }
}

fn high(page: usize) -> PageKey {
    let mode = Mode { el1: true, mmu: true, far: true, ..Mode::default() };
    PageKey::new(page, mode, HIGH + ((page as u64) << 12), 1)
}

/// What a fragment of one exit looks like: a patchable jump to its stub (hot), a patchable jump in its stub (cold).
const HOT: [u8; 8] = [0x90, 0x90, 0x90, 0xe9, 0, 0, 0, 0];

/// The guest words that each fragment stands for.
const WORDS: [u32; 2] = [0xd503_201f, 0xd65f_03c0];

impl Space {
    /// Publish a fragment whose only exit leads to `target`. Its address, its exit's number.
    fn put(&mut self, key: PageKey, offset: u64, target: i32) -> (Published, u64, ExitId) {
        let stamp = self.epochs.begin(key.page);
        let [hot, cold] = self.code.cache.places(&self.filling.region, 16).expect("room");
        let at = |a: u64| self.code.cache.offset(a).expect("inside") as u32;
        let site = ExitSite {
            target,
            hot_field: at(hot) + 4,
            stub: at(cold),
            clean_stub: at(cold) + 4,
            stub_field: at(cold) + 4,
            unlinked: at(cold) + 8,
            needs_stub: false,
        };
        self.code.cache.append(&mut self.filling.region, &HOT, &[0xcc; 16]).expect("room");
        let exit = self.filling.first_exit();
        let p =
            Publication { key, stamp, offset, hot: at(hot) as usize, flags_dead: true, exits: &[site], words: &WORDS };
        let published = self.code.publish(&self.filling, &p, &self.epochs);
        self.filling.exits += 1;
        (published, hot, exit)
    }

    /// Three fragments, where they are and their exits: from the first an exit leads to the second in its page, from the third one to the second from another page.
    fn put_three(&mut self) -> [(u64, ExitId); 3] {
        [(high(3), 0x10, 0x20), (high(3), 0x20, 0), (high(4), 0, 0x20 - 0x1000)].map(|(key, offset, target)| {
            let (published, host, exit) = self.put(key, offset, target);
            assert_eq!(published, Published::Ours);
            (host, exit)
        })
    }

    /// Where the hot jump of the fragment at `host` leads.
    fn leads_to(&self, host: u64) -> u64 {
        // SAFETY: a field of code in the cache, mapped readable.
        let rel = unsafe { std::ptr::read_volatile((host + 4) as *const i32) };
        (host + 8).wrapping_add_signed(i64::from(rel))
    }
}

#[test]
fn what_is_published_is_found_linked_and_lost_when_its_code_changes() {
    let mut s = space(1, 1 << 20);
    let [(a, exit_a), (b, _), (c, exit_c)] = s.put_three();
    assert_eq!(s.code.lookup(&high(3), 0x20, &s.epochs), Some(b));
    assert_eq!(s.code.lookup(&high(3), 0x24, &s.epochs), None);
    assert!(!s.code.link(exit_a, a, Some(12)), "not where the exit leads");
    assert!(s.code.link(exit_a, b, Some(12)) && !s.code.link(exit_a, b, Some(12)));
    assert!(!s.code.link(exit_c, b, None) && s.code.link(exit_c, b, Some(12)));
    assert_eq!((s.leads_to(a), s.leads_to(c)), (b, b));

    assert_eq!(s.code.cut(HIGH + 0x3000, HIGH + 0x3fff), 1);
    assert_eq!(s.leads_to(a), b, "links inside a page stay");
    assert_ne!(s.leads_to(c), b);
    assert!(s.code.link(exit_c, b, Some(12)));
    assert_eq!(s.code.cut_widely(HIGH + 0x5000, HIGH + 0x5fff), 0, "another mapping");
    assert_eq!(s.code.cut_widely(HIGH + 0x3000, HIGH + 0x3fff), 1);
    assert!(s.code.link(exit_c, b, Some(21)));
    assert_eq!(s.code.cut_widely(HIGH + 0x5000, HIGH + 0x5fff), 1, "a part of the same block");
    assert!(s.code.link(exit_c, b, Some(12)));

    let drops = s.code.drops();
    assert!(s.epochs.invalidate_page(3));
    assert_eq!(s.code.lookup(&high(3), 0x20, &s.epochs), None, "stale before anybody followed");
    assert!(s.code.follow(s.epochs.changes(), &s.epochs));
    assert!(!s.code.follow(s.epochs.changes(), &s.epochs));
    assert!(s.code.drops() > drops);
    assert!(s.leads_to(a) != b && s.leads_to(c) != b);
    assert!(!s.code.link(exit_c, b, Some(12)), "it is dead");
    assert_eq!(s.code.lookup(&high(4), 0, &s.epochs), Some(c));
    let (published, b2, _) = s.put(high(3), 0x20, 0);
    assert_eq!(published, Published::Ours);
    assert!(s.code.link(exit_c, b2, Some(12)));
    let _ = &s.ram;
}

#[test]
fn one_of_two_translations_wins_and_a_stale_one_does_not() {
    let mut s = space(1, 1 << 20);
    let (_, a, _) = s.put(high(3), 0x10, 0);
    assert_eq!(s.put(high(3), 0x10, 0).0, Published::Theirs(a));
    let stamp = s.epochs.begin(9);
    s.epochs.invalidate_page(9);
    let p = Publication { key: high(9), stamp, offset: 0, hot: 1 << 14, flags_dead: true, exits: &[], words: &[] };
    assert_eq!(s.code.publish(&s.filling, &p, &s.epochs), Published::Stale);
    s.epochs.invalidate_all();
    assert_eq!(s.put(high(3), 0x10, 0).0, Published::Ours, "the old one was stale");
    s.code.follow(s.epochs.changes(), &s.epochs);
    assert!(s.code.lookup(&high(3), 0x10, &s.epochs).is_some(), "what is current stays");
}

#[test]
fn links_need_the_same_space_and_mode() {
    let mut s = space(1, 1 << 20);
    let (_, _, exit) = s.put(high(4), 0, 0x20 - 0x1000);
    let other_space = PageKey { space: 2, ..high(3) };
    let other_mode = PageKey { mode: high(3).mode ^ 2, ..high(3) };
    let elsewhere = PageKey { va: HIGH + 0x9000, ..high(3) };
    for key in [other_space, other_mode, elsewhere] {
        let (_, host, _) = s.put(key, 0x20, 0);
        assert!(!s.code.link(exit, host, Some(12)), "{key:?}");
    }
    let (_, host, _) = s.put(high(3), 0x20, 0);
    assert!(s.code.link(exit, host, Some(12)));
}

#[test]
fn a_chunk_is_used_again_only_when_everybody_passed() {
    let mut s = space(2, 1 << 18);
    s.code.grace.come_in(0);
    s.code.grace.come_in(1);
    let mut kept = Vec::new();
    let mut evicted = 0;
    // Fill everything there is.
    loop {
        let (_, host, _) = s.put(high(kept.len() % 64), kept.len() as u64 / 64 * 4, 0);
        kept.push(host);
        let fresh = Filling { chunk: s.filling.chunk, region: unsafe_region(&s.code), exits: 0 };
        let full = std::mem::replace(&mut s.filling, fresh);
        match s.code.next_chunk(Some(full), &mut evicted) {
            Some(f) => s.filling = f,
            None => break,
        }
        assert!(kept.len() < 1000);
    }
    assert!(evicted > 0);
    assert_eq!(s.code.lookup(&high(0), 0, &s.epochs), None, "the oldest went first");
    s.code.grace.pass(0, s.code.grace.now());
    assert_eq!(s.code.laggards(), [1]);
    assert!(s.code.next_chunk(None, &mut evicted).is_none());
    s.code.grace.go_out(1);
    assert!(s.code.next_chunk(None, &mut evicted).is_some());
}

/// A placeholder that nothing is written through.
fn unsafe_region(code: &CodeSpace) -> crate::cache::Region {
    // SAFETY: never written through.
    unsafe { code.cache.region(0, 0) }.expect("inside")
}

#[test]
fn what_its_page_lost_is_revived_if_its_words_are_the_same() {
    let mut s = space(1, 1 << 20);
    let (_, a, exit_a) = s.put(high(3), 0x10, 0x20);
    let (_, b, _) = s.put(high(3), 0x20, 0);
    assert!(s.code.link(exit_a, b, Some(12)));
    let change = |s: &Space| {
        assert!(s.epochs.invalidate_page(3));
        assert!(s.code.follow(s.epochs.changes(), &s.epochs));
    };
    change(&s);
    assert_ne!(s.leads_to(a), b);
    assert_eq!(s.code.lookup(&high(3), 0x10, &s.epochs), None);

    // More words behind may be what they like; another mode, page or offset has nothing.
    let long = [WORDS[0], WORDS[1], 7];
    let stamp = s.epochs.begin(3);
    assert_eq!(s.code.revive(&high(4), 0x10, stamp, &long, &s.epochs), None);
    assert_eq!(s.code.revive(&high(3), 0x14, stamp, &long, &s.epochs), None);
    assert_eq!(s.code.revive(&high(3), 0x10, stamp, &long, &s.epochs), Some(a));
    assert_eq!(s.code.lookup(&high(3), 0x10, &s.epochs), Some(a));
    assert_eq!(s.code.revive(&high(3), 0x10, stamp, &long, &s.epochs), None, "once");
    assert!(!s.code.link(exit_a, b, Some(12)), "that one is dead");
    assert_eq!(s.code.revive(&high(3), 0x20, stamp, &[WORDS[0]], &s.epochs), None, "a word is missing");
    assert_eq!(s.code.revive(&high(3), 0x20, stamp, &WORDS, &s.epochs), None, "forgotten");

    // Dead again, and a stamp from before the change.
    change(&s);
    assert_eq!(s.code.revive(&high(3), 0x10, stamp, &WORDS, &s.epochs), None, "stale");
    let (published, c, exit_c) = s.put(high(3), 0x10, 0x10);
    assert_eq!(published, Published::Ours);
    assert!(s.code.link(exit_c, c, Some(12)));
    change(&s);
    let stamp = s.epochs.begin(3);
    assert_eq!(s.code.revive(&high(3), 0x10, stamp, &[WORDS[0], 0], &s.epochs), None, "other words");
    assert_eq!(s.code.lookup(&high(3), 0x10, &s.epochs), None);
}

#[test]
fn what_sleeps_goes_with_its_chunk() {
    let mut s = space(1, 1 << 18);
    let (_, a, _) = s.put(high(3), 0x10, 0x20);
    assert!(s.epochs.invalidate_page(3));
    assert!(s.code.follow(s.epochs.changes(), &s.epochs));
    let mut evicted = 0;
    let first = s.filling.chunk;
    for _ in 0..64 {
        let Space { code, filling, .. } = s;
        let next = code.next_chunk(Some(filling), &mut evicted).expect("one vCPU, which is out");
        s = Space { code, filling: next, ..s };
        if s.filling.chunk == first {
            break;
        }
    }
    assert!(evicted > 0 && s.filling.chunk == first);
    let stamp = s.epochs.begin(3);
    assert_eq!(
        s.code.revive(&high(3), 0x10, stamp, &WORDS, &s.epochs),
        None,
        "the memory of {a:#x} is somebody else's"
    );
}

#[test]
fn while_the_machine_idles_the_oldest_code_goes_with_its_memory() {
    const CHUNKS: usize = 120;
    let mut s = space_with(1, 32 << 20, false);
    s.code.grace.come_in(0);
    let key = |n: usize| (high(n % 64), n as u64 / 64 * 4);
    let mut hosts = Vec::new();
    for n in 0..CHUNKS {
        let (page, offset) = key(n);
        hosts.push(s.put(page, offset, 0).1);
        let Space { code, filling, .. } = s;
        let next = code.next_chunk(Some(filling), &mut 0).expect("room");
        s = Space { code, filling: next, ..s };
    }
    let (before, drops) = (s.code.cache.resident(), s.code.drops());
    assert!(!s.code.trim(), "a vCPU may be in what went");
    assert!((s.code.trims(), s.code.cache.resident()) == (1, before) && s.code.drops() > drops);
    s.code.grace.go_out(0);
    assert!(s.code.trim());
    // Of 48 chunks that stay all is there; of the 72 that went 8 share a block with others, and 15 with the thunks. Each had touched two pages.
    let gone = s.code.trimmed() as usize;
    assert_eq!(gone, 72);
    assert_eq!(before - s.code.cache.resident(), 48 * 8192);
    for (n, host) in hosts.iter().enumerate() {
        let (page, offset) = key(n);
        assert_eq!(s.code.lookup(&page, offset, &s.epochs), (n >= gone).then_some(*host), "{n}");
    }
    assert!(s.code.trim() && s.code.trims() == 1, "little is left");

    // What was given back is used again, what is beside code that stays first.
    let Space { code, filling, .. } = s;
    let next = code.next_chunk(Some(filling), &mut 0).expect("room");
    assert_eq!(next.chunk, 1);
    s = Space { code, filling: next, ..s };
    let (published, host, _) = s.put(high(0), 0, 0);
    assert_eq!((published, s.code.lookup(&high(0), 0, &s.epochs)), (Published::Ours, Some(host)));
}

#[test]
fn drops_are_remembered_by_the_virtual_page() {
    let mut s = space(1, 1 << 20);
    let low = PageKey { va: 0, space: 0, ..high(5) };
    let seen = s.code.drops();
    let mut change = |key: PageKey| {
        s.put(key, 0, 0);
        assert!(s.epochs.invalidate_page(key.page));
        assert!(s.code.follow(s.epochs.changes(), &s.epochs));
        let now = s.code.drops();
        (now, s.code.dropped(seen, now))
    };
    assert_eq!(change(high(3)).1, Some(vec![HIGH + 0x3000]));
    let (between, both) = change(high(4));
    assert_eq!(both, Some(vec![HIGH + 0x3000, HIGH + 0x4000]));
    assert_eq!(change(low).1, None, "code that belongs to no address");
    let (now, _) = change(high(6));
    let since = s.code.dropped(now - 1, now);
    assert_eq!((since, s.code.dropped(between - 1, between)), (Some(vec![HIGH + 0x6000]), Some(vec![HIGH + 0x4000])));
    for n in 0..DROPS {
        s.put(high(n % 64), 4, 0);
        assert!(s.epochs.invalidate_page(n % 64));
        assert!(s.code.follow(s.epochs.changes(), &s.epochs));
    }
    assert_eq!(s.code.dropped(between, s.code.drops()), None, "too late to tell");
    assert_eq!(s.code.dropped(now - 1, now), None, "overwritten");
}

#[test]
fn all_links_between_pages_are_cut_at_once() {
    let mut s = space(1, 1 << 20);
    let [(a, exit_a), (b, _), (c, exit_c)] = s.put_three();
    for _ in 0..3000 {
        assert!(s.code.link(exit_c, b, Some(12)));
        assert_eq!(s.code.cut(HIGH + 0x3000, HIGH + 0x3fff), 1);
    }
    assert!(s.code.lock().far.capacity() < 3000, "what was cut does not pile up");
    assert!(s.code.link(exit_a, b, Some(12)) && s.code.link(exit_c, b, Some(12)));
    assert_eq!(s.code.cut(0, u64::MAX), 1);
    assert_eq!(s.leads_to(a), b, "links inside a page stay");
    assert_ne!(s.leads_to(c), b);
    assert_eq!(s.code.cut(0, u64::MAX), 0);
    assert!(s.code.link(exit_c, b, Some(12)));
    assert_eq!(s.code.cut(0, u64::MAX), 1);
}
