// SPDX-License-Identifier: MIT
//
// RingSource against the rule that it exists for: a page written since the last collect is in the
// next one, or the next one says that everything is. Whatever the kernel does meanwhile: run rings
// over, be interrupted, fail.
#include "dirtyring/source/ring_source.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bitset>
#include <cerrno>
#include <ostream>
#include <utility>
#include <vector>

#include "fake_kernel.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

constexpr std::uint32_t vcpus = 2;
constexpr std::uint32_t entries = 128;
constexpr std::uint32_t reserved = 64;
constexpr std::uint64_t pages = 10 * entries;

struct Command {
    enum class Kind {
        collect,
        drain,
        write,             // `count` pages from `page` on; a full ring is made room for
        write_until_full,  // the same, but a vCPU whose ring is full is left waiting
        // The same by a vCPU in the middle of the next reset, once that has taken `moment` entries:
        write_during_reset,
        write_during_rearm,  // the same whenever a slot's logging is toggled, until the next
                             // collect
        look_every,          // the vCPUs look at the soft limit every `count` pages
        kill,                // the next reset ends after `moment` entries
        fail                 // the ioctl after the next `moment` fails
    };
    Kind kind;
    std::uint32_t vcpu;
    std::uint64_t page;
    std::uint64_t count;
    std::uint32_t moment;
};

void showValue(const Command& command, std::ostream& out) {
    const auto writes = [&](const char* when) {
        out << "vCPU " << command.vcpu << " writes pages " << command.page << " to "
            << command.page + command.count - 1 << when;
    };
    switch (command.kind) {
        case Command::Kind::collect:
            out << "collect";
            return;
        case Command::Kind::drain:
            out << "drain";
            return;
        case Command::Kind::write:
            return writes("");
        case Command::Kind::write_until_full:
            return writes(" or until its ring is full");
        case Command::Kind::write_during_reset:
            writes(" in the next reset, once that has taken ");
            out << command.moment << " entries";
            return;
        case Command::Kind::write_during_rearm:
            return writes(" whenever a slot's logging is toggled");
        case Command::Kind::look_every:
            out << "from now on vCPUs look at the soft limit every " << command.count << " pages";
            return;
        case Command::Kind::kill:
            out << "the next reset ends after " << command.moment << " entries";
            return;
        case Command::Kind::fail:
            out << command.moment << " more ioctls, then one that fails";
            return;
    }
}

rc::Gen<Command> arbitrary_command(const std::vector<Command::Kind>& kinds,
                                   std::uint64_t most_between_looks) {
    using rc::gen::inRange;
    return rc::gen::mapcat(rc::gen::elementOf(kinds), [=](Command::Kind kind) {
        const bool look = kind == Command::Kind::look_every;
        return rc::gen::build<Command>(
            rc::gen::set(&Command::kind, rc::gen::just(kind)),
            rc::gen::set(&Command::vcpu, inRange<std::uint32_t>(0, vcpus)),
            rc::gen::set(&Command::page, inRange<std::uint64_t>(0, pages)),
            // Not scaled with the case's size: short sequences of long writes find most.
            rc::gen::set(&Command::count,
                         rc::gen::resize(rc::kNominalSize,
                                         inRange<std::uint64_t>(
                                             1, look ? most_between_looks + 1 : 3 * entries))),
            rc::gen::set(&Command::moment, rc::gen::resize(rc::kNominalSize, inRange<std::uint32_t>(
                                                                                 0, 2 * entries))));
    });
}

using PageNumbers = std::bitset<pages>;

// The VM, its user, and what the user must get to know.
class World {
  public:
    explicit World(std::uint32_t first_index)
        : kernel_({.vcpus = vcpus,
                   .entries = entries,
                   .reserved = reserved,
                   .first_index = first_index,
                   // Two slots, so that a re-arming of all memory has a middle.
                   .slots = {{0, split}, {1, pages - split}}}),
          source_(fake::Kernel::fd(), kernel_.memory()) {
        kernel_.answer(faults_);
        for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
            source_.add(must(Ring::over(kernel_.ring(vcpu))));
        }
    }

    void act(const Command& command) {
        switch (command.kind) {
            case Command::Kind::collect:
                static_cast<void>(collect());
                break;
            case Command::Kind::drain:
                check(source_.drain());
                break;
            case Command::Kind::write:
                write(command.vcpu, command.page, command.count);
                break;
            case Command::Kind::write_until_full:
                if (waiting_[command.vcpu]) {
                    make_room(command.vcpu);
                }
                waiting_[command.vcpu] = !write_until_full(command).second;
                break;
            case Command::Kind::write_during_reset:
                kernel_.during_reset(command.moment, [this, command] { meanwhile(command); });
                break;
            case Command::Kind::write_during_rearm:
                kernel_.around_set_region([this, command] { meanwhile(command); });
                break;
            case Command::Kind::look_every:
                kernel_.set_look_every(static_cast<std::uint32_t>(command.count));
                break;
            case Command::Kind::kill:
                kernel_.kill_after(command.moment);
                break;
            case Command::Kind::fail:
                faults_.fail_next(faulty::Call::ioctl, EIO, command.moment % 4);
                break;
        }
        for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
            RC_ASSERT(source_.statistics(vcpu).largest_fill <= entries);
        }
    }

    /// Nothing goes wrong from here on.
    void calm() {
        kernel_.set_look_every(1);
        kernel_.kill_after(~std::uint32_t{0});
        kernel_.during_reset(0, nullptr);
        kernel_.around_set_region(nullptr);
        static_cast<void>(faults_.fail_next(faulty::Call::uname, EIO));  // in place of any other
    }

    void write(std::uint32_t vcpu, std::uint64_t first, std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) {
            if (waiting_[vcpu] || !store(vcpu, (first + i) % pages)) {
                make_room(vcpu);
                RC_ASSERT(store(vcpu, (first + i) % pages));
            }
        }
    }

    /// True where it said everything, or failed as it was told to.
    bool collect() {
        collecting_ = true;
        Result<Pages> result = source_.collect({});
        collecting_ = false;
        kernel_.around_set_region(nullptr);
        const PageNumbers meanwhile = std::exchange(written_meanwhile_, {});
        if (!result) {
            check(tl::unexpected(result.error()));
            unreported_ |= meanwhile;
            return true;
        }
        last_ = numbers(result->set());
        if (!result->everything()) {
            none(unreported_ & ~last_,
                 "was written, and the collect says neither it nor everything");
        }
        // The next write to a page that is not armed goes unlogged: it may only be so where the
        // entry of its last write is still to be read.
        none(~armed() & ~meanwhile, "is not armed after the collect");
        unreported_ = meanwhile & ~last_;
        return result->everything();
    }

    [[nodiscard]] const PageNumbers& last_collected() const { return last_; }
    [[nodiscard]] RingSource& source() { return source_; }

  private:
    static constexpr std::uint64_t split = pages / 2 + 13;

    static std::pair<std::uint32_t, std::uint64_t> place(std::uint64_t page) {
        return page < split ? std::pair{0U, page} : std::pair{1U, page - split};
    }
    [[nodiscard]] PageNumbers armed() const {
        PageNumbers all;
        for (std::uint64_t page = 0; page < pages; ++page) {
            const auto [slot, offset] = place(page);
            all.set(page, kernel_.armed(slot, offset));
        }
        return all;
    }
    static PageNumbers numbers(const DirtySet& set) {
        PageNumbers all;
        set.pages(0).for_each([&](std::uint64_t page) { all.set(page); });
        set.pages(1).for_each([&](std::uint64_t page) { all.set(page + split); });
        return all;
    }
    static void none(const PageNumbers& wrong, const char* is) {
        if (wrong.any()) {
            RC_FAIL("page " + std::to_string(wrong._Find_first()) + " " + is);
        }
    }

    bool store(std::uint32_t vcpu, std::uint64_t page) {
        const auto [slot, offset] = place(page);
        if (!kernel_.write(vcpu, slot, offset)) {
            return false;
        }
        waiting_[vcpu] = false;
        (collecting_ ? written_meanwhile_ : unreported_).set(page);
        return true;
    }
    /// How many pages were written, and whether that was all of them.
    std::pair<std::uint64_t, bool> write_until_full(const Command& command) {
        for (std::uint64_t i = 0; i < command.count; ++i) {
            if (!store(command.vcpu, (command.page + i) % pages)) {
                return {i, false};
            }
        }
        return {command.count, true};
    }
    /// A vCPU that runs while this thread is in a call; one that waits in its exit does not.
    void meanwhile(const Command& command) {
        if (!waiting_[command.vcpu] && command.vcpu != making_room_) {
            waiting_[command.vcpu] = !write_until_full(command).second;
        }
    }
    /// The vCPU's thread after KVM_EXIT_DIRTY_RING_FULL, until the vCPU runs on. The page that it
    /// runs on with is one that is written anyway.
    void make_room(std::uint32_t vcpu) {
        making_room_ = vcpu;
        for (int attempt = 0; attempt < most_exits; ++attempt) {
            const bool done = check(source_.ring_full(vcpu));
            if (done && kernel_.may_run(vcpu)) {
                waiting_[vcpu] = false;
                making_room_ = nobody;
                return;
            }
        }
        RC_FAIL("vCPU " + std::to_string(vcpu) + " does not run on after " +
                std::to_string(most_exits) + " full exits");
    }
    /// Whether it succeeded; a failure that was not ordered fails the test.
    bool check(const Result<void>& result) {
        if (!result && !faults_.failed()) {
            RC_FAIL(result.error().message());
        }
        return result.has_value();
    }

    // The most that an overrun leaves to be caught up with is 6 times what one exit catches up.
    static constexpr int most_exits = 20;
    static constexpr std::uint32_t nobody = ~std::uint32_t{0};

    faulty::Faults faults_;
    fake::Kernel kernel_;
    RingSource source_;
    bool waiting_[vcpus] = {};  // in an exit because its ring is full
    std::uint32_t making_room_ = nobody;
    bool collecting_ = false;
    PageNumbers unreported_;         // written since they were last reported
    PageNumbers written_meanwhile_;  // in the collect that is under way
    PageNumbers last_;
};

const std::vector<Command::Kind> ordinary = {Command::Kind::collect,
                                             Command::Kind::drain,
                                             Command::Kind::write,
                                             Command::Kind::write,
                                             Command::Kind::write_until_full,
                                             Command::Kind::write_during_reset,
                                             Command::Kind::look_every};

std::vector<Command::Kind> all_kinds() {
    std::vector<Command::Kind> all = ordinary;
    all.insert(all.end(),
               {Command::Kind::write_during_rearm, Command::Kind::kill, Command::Kind::fail});
    return all;
}

std::uint32_t arbitrary_first_index() {
    return *rc::gen::element(std::uint32_t{0}, 0U - entries, 0U - 4 * entries);
}

// A kernel that keeps its soft limit: what is dirty is what was written, never "everything".
RC_GTEST_PROP(RingSourceModel, IsExactWhereTheKernelKeepsItsSoftLimit, ()) {
    const auto commands =
        *rc::gen::container<std::vector<Command>>(arbitrary_command(ordinary, reserved));
    World world(arbitrary_first_index());
    for (const Command& command : commands) {
        if (command.kind == Command::Kind::collect) {
            RC_ASSERT(!world.collect());
        } else {
            world.act(command);
        }
    }
    RC_ASSERT(!world.collect());
    RC_ASSERT(world.source().statistics(0).overruns == 0U);
    RC_ASSERT(world.source().statistics(1).overruns == 0U);
}

// One that does not, in all ways at once, and then stops it: no write is missed, no vCPU hangs, and
// afterwards all is exact again.
void run(const std::vector<Command>& commands, std::uint32_t first_index) {
    World world(first_index);
    for (const Command& command : commands) {
        world.act(command);
    }
    world.calm();
    // A ring that is out of step is found out and cured at the latest when it has been full.
    for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
        static_cast<void>(world.collect());
        world.write(vcpu, 0, 2 * entries);
    }
    static_cast<void>(world.collect());
    for (std::uint64_t first = 0; first < pages; first += entries) {
        const std::uint32_t vcpu = first / entries % vcpus;
        world.write(vcpu, first, entries);
        RC_ASSERT(!world.collect());
        RC_ASSERT(world.last_collected().count() == entries);
    }
}

RC_GTEST_PROP(RingSourceModel, MissesNothingWhateverHappensAndIsExactAgainAfterwards, ()) {
    run(*rc::gen::container<std::vector<Command>>(arbitrary_command(all_kinds(), 6 * entries)),
        arbitrary_first_index());
}

}  // namespace
}  // namespace dirtyring
