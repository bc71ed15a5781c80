// SPDX-License-Identifier: MIT
//
// What can happen to a VM that is tracked, to its tracker and to those who ask it, as rapidcheck
// makes it up and prints it.
#pragma once

#include <rapidcheck.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <ostream>
#include <vector>

namespace dirtyring::model {

inline constexpr std::uint32_t entries = 128;  // of a ring

// What slots can be: these ids, the last one SMM's, each over the first pages of one of these
// blocks of memory, at one of these guest addresses, of which the ends lie in different leaves of
// the board of marks, or near together.
inline constexpr std::uint32_t slot_ids[] = {0, 5, 1U << 16};
inline constexpr std::size_t blocks = 4;
inline constexpr std::uint64_t block_pages = 256;
inline constexpr std::uint64_t leaf = 1U << 15;
inline constexpr std::uint64_t addresses[] = {0,          300,           1013,
                                              leaf - 100, 3 * leaf + 77, 40 * leaf - 1};

struct SlotChange {
    enum class Kind { put, resize, replace, move, remove };
    Kind kind;
    std::size_t slot;     // of slot_ids
    std::size_t block;    // for put and replace
    std::size_t address;  // of addresses, for put and move
    std::uint64_t pages;  // for put and resize
};

struct Command {
    enum class Kind {
        collect,
        collect_stopped,
        commit,
        abort,
        drop,
        add_consumer,
        remove_consumer,
        drain,
        write,  // by vCPU `who`, `count` pages from `page` on; a full ring is made room for
        write_until_full,  // the same, but a vCPU whose ring is full is left waiting
        // The same by a vCPU in the middle of the next reset, once that has taken `moment` entries:
        write_during_reset,
        write_during_clear,  // the same before each KVM_CLEAR_DIRTY_LOG of the next collect
        mark,                // the host writes about as many pages and marks them
        mark_bitmap,
        change_slots,  // with the vCPUs stopped; fails after `moment` ioctls, if there are more
        add_vcpu,
        remove_vcpu,
        // And what no kernel should do:
        look_every,          // the vCPUs look at the soft limit every `count` pages
        write_during_rearm,  // as before a clear, whenever a slot's logging is toggled
        kill,                // the next reset ends after `moment` entries
        fail                 // the ioctl after the next `moment` fails
    };
    Kind kind;
    std::size_t who;  // which of the consumers, epochs, vCPUs or slots that there are
    std::uint64_t page;
    std::uint64_t count;
    std::uint32_t moment;
    std::vector<SlotChange> changes;
};

/// Of a slot change and of an order to fail, `moment` counts below this.
inline constexpr std::uint32_t most_steps = 8;

inline void showValue(const SlotChange& change, std::ostream& out) {
    using Kind = SlotChange::Kind;
    constexpr const char* verbs[] = {"put", "resize", "replace", "move", "remove"};
    out << verbs[static_cast<int>(change.kind)] << " slot " << slot_ids[change.slot];
    if (change.kind == Kind::put || change.kind == Kind::resize) {
        out << " of " << change.pages << " pages";
    }
    if (change.kind == Kind::put || change.kind == Kind::replace) {
        out << " over block " << change.block;
    }
    if (change.kind == Kind::put || change.kind == Kind::move) {
        out << " at guest page " << addresses[change.address];
    }
}

inline void showValue(const Command& command, std::ostream& out) {
    using Kind = Command::Kind;
    const auto& [kind, who, page, count, moment, changes] = command;
    const auto of = [&](const char* does, const char* thing) {
        out << does << " " << thing << " no. " << command.who;
    };
    const auto writes = [&](const char* when) {
        of("write by", "vCPU");
        out << ", " << command.count << " pages from " << command.page << " on" << when;
    };
    switch (kind) {
        case Kind::collect:
            return of("collect by", "consumer");
        case Kind::collect_stopped:
            return of("stop and collect by", "consumer");
        case Kind::commit:
            return of("commit", "epoch");
        case Kind::abort:
            return of("abort", "epoch");
        case Kind::drop:
            return of("drop", "epoch");
        case Kind::add_consumer:
            out << "add a consumer";
            return;
        case Kind::remove_consumer:
            return of("remove", "consumer");
        case Kind::drain:
            out << "drain";
            return;
        case Kind::write:
            return writes("");
        case Kind::write_until_full:
            return writes(", or until its ring is full");
        case Kind::write_during_reset:
            writes(", in the next reset, once that has taken ");
            out << moment << " entries";
            return;
        case Kind::write_during_clear:
            return writes(", before each KVM_CLEAR_DIRTY_LOG");
        case Kind::mark:
            of("mark near", "slot");
            out << ", " << count << " kB from page " << page << " on, " << moment;
            return;
        case Kind::mark_bitmap:
            of("mark a bitmap near", "slot");
            out << ", from page " << page << " on, " << count << ", " << moment;
            return;
        case Kind::change_slots:
            rc::show(changes, out);
            out << ", at most " << moment % most_steps << " ioctls";
            return;
        case Kind::add_vcpu:
            out << "add a vCPU";
            return;
        case Kind::remove_vcpu:
            return of("remove", "vCPU");
        case Kind::look_every:
            out << "from now on vCPUs look at the soft limit every " << count << " pages";
            return;
        case Kind::write_during_rearm:
            return writes(", whenever a slot's logging is toggled");
        case Kind::kill:
            out << "the next reset ends after " << moment << " entries";
            return;
        case Kind::fail:
            out << moment % most_steps << " more ioctls, then one that fails";
            return;
    }
}

template <typename T>
rc::Gen<T> below(T end, T first = 0) {
    // Not scaled with the case's size: short sequences of long writes find most.
    return rc::gen::resize(rc::kNominalSize, rc::gen::inRange<T>(first, end));
}

inline rc::Gen<SlotChange> arbitrary_change() {
    using Kind = SlotChange::Kind;
    return rc::gen::build<SlotChange>(
        rc::gen::set(&SlotChange::kind, rc::gen::element(Kind::put, Kind::resize, Kind::replace,
                                                         Kind::move, Kind::remove)),
        rc::gen::set(&SlotChange::slot, below(std::size(slot_ids))),
        rc::gen::set(&SlotChange::block, below(blocks)),
        rc::gen::set(&SlotChange::address, below(std::size(addresses))),
        rc::gen::set(&SlotChange::pages, below(block_pages + 1, std::uint64_t{1})));
}

inline rc::Gen<Command> arbitrary_command(const std::vector<Command::Kind>& kinds,
                                          std::uint64_t most_between_looks) {
    return rc::gen::mapcat(rc::gen::elementOf(kinds), [=](Command::Kind kind) {
        const bool look = kind == Command::Kind::look_every;
        const std::size_t changes = kind == Command::Kind::change_slots ? 3 : 0;
        return rc::gen::build<Command>(
            rc::gen::set(&Command::kind, rc::gen::just(kind)),
            rc::gen::set(&Command::who, below(std::size_t{6})),
            rc::gen::set(&Command::page, below(std::size(slot_ids) * block_pages)),
            rc::gen::set(&Command::count,
                         below(look ? most_between_looks + 1 : 3 * entries, std::uint64_t{1})),
            rc::gen::set(&Command::moment, below(2 * entries)),
            rc::gen::set(&Command::changes,
                         rc::gen::mapcat(below(changes + 1, std::min<std::size_t>(changes, 1)),
                                         [](std::size_t count) {
                                             return rc::gen::container<std::vector<SlotChange>>(
                                                 count, arbitrary_change());
                                         })));
    });
}

}  // namespace dirtyring::model
