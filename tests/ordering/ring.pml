/* SPDX-License-Identifier: MIT
 *
 * The handshake of a ring's reader with the kernel, for spin: every order in which a weakly ordered machine may
 * perform their accesses. docs/ordering.md says what is checked and what is left out; `run` beside this file gives the
 * orders, those of the reader from ring.hpp.
 *
 * There is one memory. Each access of a thread is performed on it in one step, at any time that these rules allow,
 * wherever it stands in the program:
 *
 *   acquire     An acquire load is performed before all accesses that come after it.
 *   release     A release store is performed after all accesses that come before it.
 *   dependency  A store is performed after the loads that decide whether it happens and what it stores where. A load
 *               is performed after those that say where it loads, but not after those that decide whether it
 *               happens: it may be early, by speculation.
 *   same word   A store is performed after the earlier accesses to its word, a load after the earlier stores to it.
 *
 * So a thread is not a program here but a set of accesses, each with what it waits for. Accesses of one kind are one
 * variable, with a bit for each entry whose access has been performed. Entries are counted from the first push on and
 * lie at their number modulo RING. A load that polls is performed when it finds what it waits for; one that finds
 * something else changes nothing, orders nothing here, and is left out.
 */

#define RELAXED 0
#define ACQUIRE 1
#define RELEASE 2

/* Given by `run`:
 *
 *   READER_LOAD     RELAXED or ACQUIRE: the reader's load of the flags
 *   READER_STORE    RELAXED or RELEASE: the reader's store of RESET
 *   PUSH_STORE      RELAXED or RELEASE: the vCPU's store of DIRTY, with the barrier before it
 *   RESET_LOAD      RELAXED or ACQUIRE: the reset's load of the flags
 *   RESET_STORE     RELAXED or RELEASE: the reset's store of 0
 *   INDEX_IN_ORDER  1: no vCPU sees reset_index past an entry before the reset's store of 0 to it
 *   LOOK_IN_ORDER   1: a page is looked at when the reset that took its entry has returned
 *   REWRITE         1: the reader rewrites slot and offset
 *   PUSHES          how many entries the vCPU logs, at most 8
 */

#define RING 2
#define PAGES 3

/* Flags. */
#define FREE 0
#define DIRTY 1
#define RESET 2

/* Sets of entries, and of pages. */
#define only(e) (1 << (e))
#define before(e) (only(e) - 1)
#define upto(e) (only(e) | before(e))
#define all(set, of) (((set) & (of)) == (of))
#define has(set, e) all(set, only(e))

/* The rules, for an access to entry e. */
#define if_acquire(order, done) ((order) != ACQUIRE || (done))
#define if_release(order, done) ((order) != RELEASE || (done))
#define same_word(done, e) ((e) < RING || has(done, (e) - RING))

/* A page's name in an entry: slot and offset alike, so that no mixture of two is a name, and nor are zeros. */
#define NAME(p) ((p) + 1)
#define NAMED(name) ((name) - 1)

#define must(holds, sentence) if :: (holds) :: else -> printf(sentence); assert(false) fi

/* The ring. */
byte flags[RING], slot[RING], offset[RING];

/* The vCPU. */
byte pushes;                    /* begun */
byte page[PUSHES];              /* what is logged */
byte v_slot, v_offset, v_flags; /* stores */

/* The reader. */
byte h_flags, h_slot, h_offset;           /* loads */
byte h_new_slot, h_new_offset, h_release; /* stores */
byte slot_read[PUSHES], offset_read[PUSHES];
byte partner[PUSHES];                     /* the entry whose name this one is given */

/* The reset. */
byte r_flags, r_slot, r_offset; /* loads */
byte r_free, r_rearm;           /* stores, the second to the page table */
byte slot_taken[PUSHES], offset_taken[PUSHES];
byte returned;                  /* so many entries were taken by calls that have returned */

/* The guest's memory: sets of pages. */
byte known;    /* have been logged */
byte writable; /* are so by the page table: not logged when they are written */
byte open;     /* are so, or by an old translation that the vCPU still has */
byte stale;    /* have been written since they were copied */

byte looked; /* entries whose page has been copied */

/* A write to page p faults: the push begins and the page becomes writable, in one step since the kernel holds the lock
   of its page table. From then on the guest writes to it at every moment until it cannot; a guest that writes less is
   easier to follow. The fault may come while there is an old translation, which the vCPU may have dropped. Pages are
   alike, so they are logged for the first time in order. */
proctype guest(byte p) {
end:
    do
    :: d_step { pushes < PUSHES && !has(writable, p) && all(known, before(p)) &&
                (pushes < RING || all((INDEX_IN_ORDER -> r_free : r_flags), upto(pushes - RING))) ->
        page[pushes] = p;
        printf("vCPU    entry %d: logs page %d\n", pushes, p);
        pushes++;
        known = known | only(p);
        writable = writable | only(p);
        open = open | only(p);
        stale = stale | only(p) }
    od
}

/* kvm_dirty_ring_push, the stores for entry e. */
proctype push(byte e) {
end:
    do
    :: d_step { e < pushes && !has(v_slot, e) && same_word(v_slot, e) ->
        printf("vCPU    entry %d: stores slot %d\n", e, NAME(page[e]));
        must(same_word(h_slot & r_slot, e), "FAILED: the slot is overwritten before it has been read\n");
        slot[e % RING] = NAME(page[e]);
        v_slot = v_slot | only(e) }
    :: d_step { e < pushes && !has(v_offset, e) && same_word(v_offset, e) ->
        printf("vCPU    entry %d: stores offset %d\n", e, NAME(page[e]));
        must(same_word(h_offset & r_offset, e), "FAILED: the offset is overwritten before it has been read\n");
        offset[e % RING] = NAME(page[e]);
        v_offset = v_offset | only(e) }
    :: d_step { e < pushes && !has(v_flags, e) && same_word(v_flags, e) &&
                if_release(PUSH_STORE, all(v_slot & v_offset, upto(e)) && all(v_flags, before(e))) ->
        printf("vCPU    entry %d: stores flags DIRTY\n", e);
        must(flags[e % RING] == FREE, "FAILED: the vCPU logs into an entry that is not free\n");
        flags[e % RING] = DIRTY;
        v_flags = v_flags | only(e) }
    od
}

/* Ring::consume, or peek, rewrite and release: the accesses to entry e. */
#define branched(e) all(h_flags, upto(e) | upto(partner[e]))

inline check_read(e) {
    must(!has(h_flags & h_slot & h_offset, e) || (slot_read[e] == NAME(page[e]) && offset_read[e] == NAME(page[e])),
         "FAILED: the reader has read another page than was logged\n")
}

proctype reader(byte e) {
end:
    do
    :: d_step { !has(h_flags, e) && if_acquire(READER_LOAD, all(h_flags, before(e))) && same_word(h_release, e) &&
                flags[e % RING] == DIRTY ->
        printf("reader  entry %d: loads flags DIRTY\n", e);
        h_flags = h_flags | only(e);
        check_read(e) }
    :: d_step { !has(h_slot, e) && if_acquire(READER_LOAD, all(h_flags, upto(e))) &&
                (!REWRITE || same_word(h_new_slot, e)) ->
        slot_read[e] = slot[e % RING];
        printf("reader  entry %d: loads slot %d\n", e, slot_read[e]);
        h_slot = h_slot | only(e);
        check_read(e) }
    :: d_step { !has(h_offset, e) && if_acquire(READER_LOAD, all(h_flags, upto(e))) &&
                (!REWRITE || same_word(h_new_offset, e)) ->
        offset_read[e] = offset[e % RING];
        printf("reader  entry %d: loads offset %d\n", e, offset_read[e]);
        h_offset = h_offset | only(e);
        check_read(e) }
    :: d_step { REWRITE && !has(h_new_slot, e) && branched(e) && has(h_slot, partner[e]) && has(h_slot, e) &&
                same_word(h_new_slot, e) ->
        slot[e % RING] = slot_read[partner[e]];
        printf("reader  entry %d: rewrites slot to %d\n", e, slot[e % RING]);
        h_new_slot = h_new_slot | only(e) }
    :: d_step { REWRITE && !has(h_new_offset, e) && branched(e) && has(h_offset, partner[e]) && has(h_offset, e) &&
                same_word(h_new_offset, e) ->
        offset[e % RING] = offset_read[partner[e]];
        printf("reader  entry %d: rewrites offset to %d\n", e, offset[e % RING]);
        h_new_offset = h_new_offset | only(e) }
    :: d_step { !has(h_release, e) && branched(e) && same_word(h_release, e) &&
                if_release(READER_STORE, all(h_slot & h_offset, upto(e)) && all(h_release, before(e)) &&
                                             (!REWRITE || all(h_new_slot & h_new_offset, upto(e)))) ->
        printf("reader  entry %d: stores flags RESET\n", e);
        flags[e % RING] = RESET;
        h_release = h_release | only(e) }
    od
}

/* kvm_dirty_ring_reset: the accesses to entry e. */
inline check_taken(e) {
    must(!has(r_flags & r_slot & r_offset, e) ||
             (slot_taken[e] == NAME(page[partner[e]]) && offset_taken[e] == NAME(page[partner[e]])),
         "FAILED: the reset has taken another page than the entry names\n")
}

proctype reset(byte e) {
end:
    do
    :: d_step { !has(r_flags, e) && if_acquire(RESET_LOAD, all(r_flags, before(e))) && same_word(r_free, e) &&
                flags[e % RING] == RESET ->
        printf("reset   entry %d: loads flags RESET\n", e);
        r_flags = r_flags | only(e);
        check_taken(e) }
    :: d_step { !has(r_slot, e) && if_acquire(RESET_LOAD, all(r_flags, upto(e))) ->
        slot_taken[e] = slot[e % RING];
        printf("reset   entry %d: loads slot %d\n", e, slot_taken[e]);
        r_slot = r_slot | only(e);
        check_taken(e) }
    :: d_step { !has(r_offset, e) && if_acquire(RESET_LOAD, all(r_flags, upto(e))) ->
        offset_taken[e] = offset[e % RING];
        printf("reset   entry %d: loads offset %d\n", e, offset_taken[e]);
        r_offset = r_offset | only(e);
        check_taken(e) }
    :: d_step { !has(r_free, e) && all(r_flags, upto(e)) && same_word(r_free, e) &&
                if_release(RESET_STORE, all(r_slot & r_offset, upto(e)) && all(r_free, before(e))) ->
        printf("reset   entry %d: stores flags 0\n", e);
        flags[e % RING] = FREE;
        r_free = r_free | only(e) }
    :: d_step { !has(r_rearm, e) && all(r_flags, upto(e)) && has(r_slot & r_offset, e) ->
        printf("reset   entry %d: re-arms page %d\n", e, NAMED(slot_taken[e]));
        writable = writable & ~only(NAMED(slot_taken[e]));
        r_rearm = r_rearm | only(e) }
    /* The call ends: old translations are flushed, and the writes by them have been performed. */
    :: d_step { returned == e && has(r_rearm, e) ->
        printf("reset   entry %d: returns\n", e);
        open = writable;
        returned++ }
    od
}

/* The copy of the page that was read from entry e. */
proctype look(byte e) {
end:
    do
    :: d_step { !has(looked, e) && has(h_flags & h_slot & h_offset, e) &&
                (!LOOK_IN_ORDER || (returned > e && returned > partner[e])) ->
        printf("reader  entry %d: copies page %d\n", e, NAMED(slot_read[e]));
        stale = stale & (open | ~only(NAMED(slot_read[e])));
        looked = looked | only(e) }
    od
}

init {
    byte e, p;
    atomic {
        do
        :: e < PUSHES -> partner[e] = e; e++
        :: REWRITE && e + 1 < PUSHES -> partner[e] = e + 1; partner[e + 1] = e; e = e + 2
        :: e == PUSHES -> break
        od;
        for (p : 0 .. PAGES - 1) { run guest(p) }
        for (e : 0 .. PUSHES - 1) { run push(e); run reader(e); run reset(e); run look(e) }
        e = 0;
        p = 0
    }
    /* All that was logged has been read, re-armed and looked at. Spin also calls it an error if nothing can happen any
       more before this `do` is left, so that no entry may be stuck. */
    do
    :: d_step { returned == pushes && looked == before(pushes) && stale != 0 ->
        must(false, "FAILED: a write is in memory and in no copy, and nothing will tell of it\n") }
    :: returned == PUSHES && looked == before(PUSHES) -> break
    od
}
