// SPDX-License-Identifier: MIT
//
// RingSource against the rule that it exists for: a page written since the last collect is in the
// next one, or the next one says that everything is. Whatever the kernel does meanwhile: run rings
// over, be interrupted, fail. And whatever becomes of its slots and vCPUs.
//
// A page may be left unarmed by a collect only as a suspect, which each collect after it has again
// until it is armed.
#include "dirtyring/source/ring_source.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bitset>
#include <cerrno>
#include <ostream>
#include <utility>
#include <vector>

#include "fake_kernel.hpp"
#include "full_rings.hpp"
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
        fail,                // the ioctl after the next `moment` fails
        // With the vCPUs stopped:
        rearm,         // collect and rearm_suspects
        change_slot,   // slot 1 goes, or comes back over the same memory or other
        replace_vcpu,  // it will not run again; a new one does
    };
    Kind kind;
    std::uint32_t vcpu;
    std::uint64_t page;
    std::uint64_t count;
    std::uint32_t moment;
};

bool collects_first(const Command& command) {
    return command.count % 2 == 0;
}
bool same_memory(const Command& command) {
    return command.moment % 2 == 0;
}

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
        case Command::Kind::rearm:
            out << "the vCPUs stop, collect, rearm_suspects";
            return;
        case Command::Kind::change_slot:
            out << "the vCPUs stop, " << (collects_first(command) ? "collect" : "drain")
                << ", slot 1 goes or comes back over the "
                << (same_memory(command) ? "same memory" : "other memory");
            return;
        case Command::Kind::replace_vcpu:
            out << "vCPU " << command.vcpu << " is removed, a new one takes its place";
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
            vcpus_[vcpu] = {vcpu, source_.add(must(Ring::over(kernel_.ring(vcpu))))};
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
                if (vcpus_[command.vcpu].waiting) {
                    make_room(command.vcpu);
                }
                write_until_full(command);
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
            case Command::Kind::rearm:
                static_cast<void>(rearm());
                break;
            case Command::Kind::change_slot:
                change_slot(collects_first(command), same_memory(command));
                break;
            case Command::Kind::replace_vcpu:
                replace(command.vcpu);
                break;
        }
        for (std::size_t number = 0; number < source_.size(); ++number) {
            RC_ASSERT(source_.statistics(number).largest_fill <= entries);
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
            if (vcpus_[vcpu].waiting || !store(vcpu, (first + i) % pages)) {
                make_room(vcpu);
                RC_ASSERT(store(vcpu, (first + i) % pages));
            }
        }
    }

    /// With the vCPUs stopped; true where it succeeded.
    bool rearm() {
        const Stop stop(*this);
        if (!collect() || !check(source_.rearm_suspects(AllVcpusStopped()))) {
            return false;
        }
        none(~armed(), "is not armed after rearm_suspects");
        RC_ASSERT(source_.statistics().suspects == 0U);
        return true;
    }
    /// Puts slot 1 back if it has gone.
    void restore_slot() {
        if (kernel_.memory().find(1) == MemoryMap::npos) {
            change_slot(true, true);
        }
    }

    /// False where it failed, as it was told to.
    bool collect() {
        const PageNumbers suspects = suspects_ & ~armed();
        collecting_ = true;
        Result<Pages> result = source_.collect({});
        collecting_ = false;
        kernel_.around_set_region(nullptr);
        const PageNumbers meanwhile = std::exchange(written_meanwhile_, {});
        if (!check(result)) {
            unreported_ |= meanwhile;
            return false;
        }
        last_ = numbers(result->set());
        last_was_everything_ = result->everything();
        if (!result->everything()) {
            none(unreported_ & ~last_,
                 "was written, and the collect says neither it nor everything");
            none(suspects & ~last_, "is a suspect, and the collect says neither it nor everything");
        }
        // The next write to a page that is not armed goes unlogged: it may only be so where the
        // entry of its last write is still to be read, or where each collect has it.
        suspects_ = ~armed() & ~meanwhile;
        none(suspects_ & ~last_, "is not armed after the collect, which does not say it");
        RC_ASSERT(suspects_.count() <= source_.statistics().suspects);
        if (last_was_everything_) {
            RC_ASSERT(source_.statistics().suspects == 0U);  // all has been armed again
        }
        unreported_ = meanwhile & ~(last_ & armed());
        return true;
    }

    [[nodiscard]] bool last_was_everything() const { return last_was_everything_; }
    [[nodiscard]] const PageNumbers& last_collected() const { return last_; }
    [[nodiscard]] RingSource& source() { return source_; }

  private:
    static constexpr std::uint64_t split = pages / 2 + 13;

    struct Vcpu {
        std::uint32_t kernels = 0;  // number, the kernel's
        std::size_t ring = 0;       // number, the source's
        bool waiting = false;       // in an exit because its ring is full
    };
    /// No vCPU runs while there is one.
    class Stop {
      public:
        explicit Stop(World& world) : world_(world) { world_.stopped_ = true; }
        ~Stop() { world_.stopped_ = false; }
        Stop(const Stop&) = delete;
        Stop& operator=(const Stop&) = delete;

      private:
        World& world_;
    };

    static std::pair<std::uint32_t, std::uint64_t> place(std::uint64_t page) {
        return page < split ? std::pair{0U, page} : std::pair{1U, page - split};
    }
    [[nodiscard]] bool exists(std::uint64_t page) const {
        return kernel_.memory().find(place(page).first) != MemoryMap::npos;
    }
    /// One that is in no slot counts as armed.
    [[nodiscard]] PageNumbers armed() const {
        PageNumbers all;
        for (std::uint64_t page = 0; page < pages; ++page) {
            const auto [slot, offset] = place(page);
            all.set(page, !exists(page) || kernel_.armed(slot, offset));
        }
        return all;
    }
    static PageNumbers numbers(const DirtySet& set) {
        PageNumbers all;
        set.for_each_run([&](const PageRun& run) {
            RC_ASSERT(run.first + run.count <= run.slot->pages());
            for (std::uint64_t i = 0; i < run.count; ++i) {
                all.set(run.first + i + (run.slot->slot == 0 ? 0 : split));
            }
        });
        return all;
    }
    static void none(const PageNumbers& wrong, const char* is) {
        if (wrong.any()) {
            RC_FAIL("page " + std::to_string(wrong._Find_first()) + " " + is);
        }
    }

    /// A page of the slot that has gone stands for one of the other.
    bool store(std::uint32_t vcpu, std::uint64_t page) {
        if (!exists(page)) {
            page %= split;
        }
        const auto [slot, offset] = place(page);
        if (!kernel_.write(vcpus_[vcpu].kernels, slot, offset)) {
            return false;
        }
        vcpus_[vcpu].waiting = false;
        (collecting_ ? written_meanwhile_ : unreported_).set(page);
        return true;
    }
    void write_until_full(const Command& command) {
        Vcpu& vcpu = vcpus_[command.vcpu];
        vcpu.waiting = false;
        for (std::uint64_t i = 0; i < command.count && !vcpu.waiting; ++i) {
            vcpu.waiting = !store(command.vcpu, (command.page + i) % pages);
        }
    }
    /// A vCPU that runs while this thread is in a call; one that waits in its exit does not.
    void meanwhile(const Command& command) {
        if (!stopped_ && !vcpus_[command.vcpu].waiting && command.vcpu != making_room_) {
            write_until_full(command);
        }
    }
    void replace(std::uint32_t number) {
        Vcpu& vcpu = vcpus_[number];
        making_room_ = number;  // it does not run
        const bool removed = check(source_.remove(vcpu.ring, VcpuStopped()));
        making_room_ = nobody;
        if (removed) {
            RC_ASSERT(source_.remove(vcpu.ring, VcpuStopped()).error().code == ENOENT);
            RC_ASSERT(source_.ring_full(vcpu.ring).error().code == ENOENT);
            vcpu.kernels = kernel_.add_vcpu();
            vcpu.ring = source_.add(must(Ring::over(kernel_.ring(vcpu.kernels))));
            vcpu.waiting = false;
        }
    }
    /// Where what must come before it fails, as it was told to, nothing.
    void change_slot(bool collects_first, bool same_memory) {
        const Stop stop(*this);
        if (!(collects_first ? collect() : check(source_.drain()))) {
            return;
        }
        kvm_userspace_memory_region region{};
        region.slot = 1;
        MemoryMap map = kernel_.memory();
        if (const std::size_t there = map.find(1); there != MemoryMap::npos) {
            slot_ = map.slots()[there];
            must(map.remove(1));
            for (std::uint64_t page = split; page < pages; ++page) {
                unreported_.reset(page);
                suspects_.reset(page);
            }
        } else {
            slot_.host = same_memory ? slot_.host : kernel_.allocate(slot_.pages());
            must(map.add(slot_));
            region = slot_.region(KVM_MEM_LOG_DIRTY_PAGES);
        }
        // Not an ioctl of the library's, so none that is to fail.
        RC_ASSERT(kernel_.set_region(region) == 0);
        source_.set_memory(map, AllVcpusStopped());
    }
    /// The vCPU's thread after KVM_EXIT_DIRTY_RING_FULL, until the vCPU runs on. The page that it
    /// runs on with is one that is written anyway.
    void make_room(std::uint32_t vcpu) {
        making_room_ = vcpu;
        exit_until_it_runs_on(vcpu, [&] {
            return check(source_.ring_full(vcpus_[vcpu].ring)) &&
                   kernel_.may_run(vcpus_[vcpu].kernels);
        });
        vcpus_[vcpu].waiting = false;
        making_room_ = nobody;
    }
    /// Whether it succeeded; a failure that was not ordered fails the test.
    template <typename T>
    bool check(const Result<T>& result) {
        return succeeded(result, faults_);
    }

    static constexpr std::uint32_t nobody = ~std::uint32_t{0};

    faulty::Faults faults_;
    fake::Kernel kernel_;
    RingSource source_;
    Vcpu vcpus_[vcpus];
    std::uint32_t making_room_ = nobody;
    bool stopped_ = false;
    bool collecting_ = false;
    MemorySlot slot_;                // slot 1 as it was before it went
    PageNumbers unreported_;         // written since they were last reported
    PageNumbers written_meanwhile_;  // in the collect that is under way
    PageNumbers suspects_;           // not armed, and no entry of theirs is to be read
    PageNumbers last_;
    bool last_was_everything_ = false;
};

const std::vector<Command::Kind> ordinary = {Command::Kind::collect,
                                             Command::Kind::drain,
                                             Command::Kind::write,
                                             Command::Kind::write,
                                             Command::Kind::write_until_full,
                                             Command::Kind::write_during_reset,
                                             Command::Kind::look_every,
                                             Command::Kind::change_slot,
                                             Command::Kind::replace_vcpu};

std::vector<Command::Kind> all_kinds() {
    std::vector<Command::Kind> all = ordinary;
    all.insert(all.end(), {Command::Kind::write_during_rearm, Command::Kind::kill,
                           Command::Kind::fail, Command::Kind::rearm});
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
        world.act(command);
        RC_ASSERT(!world.last_was_everything());
    }
    RC_ASSERT(world.collect());
    RC_ASSERT(!world.last_was_everything());
    for (std::size_t number = 0; number < world.source().size(); ++number) {
        RC_ASSERT(world.source().statistics(number).overruns == 0U);
    }
}

// One that does not, in all ways at once, and then stops it: no write is missed, no vCPU hangs, and
// afterwards all is exact again.
void run(const std::vector<Command>& commands, std::uint32_t first_index) {
    World world(first_index);
    for (const Command& command : commands) {
        world.act(command);
    }
    world.calm();
    world.restore_slot();
    RC_ASSERT(world.rearm());
    // A ring that is out of step is found out and cured at the latest when it has been full.
    for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
        static_cast<void>(world.collect());
        world.write(vcpu, 0, 2 * entries);
    }
    static_cast<void>(world.collect());
    for (std::uint64_t first = 0; first < pages; first += entries) {
        const std::uint32_t vcpu = first / entries % vcpus;
        world.write(vcpu, first, entries);
        RC_ASSERT(world.collect());
        RC_ASSERT(!world.last_was_everything());
        RC_ASSERT(world.last_collected().count() == entries);
    }
}

RC_GTEST_PROP(RingSourceModel, MissesNothingWhateverHappensAndIsExactAgainAfterwards, ()) {
    run(*rc::gen::container<std::vector<Command>>(arbitrary_command(all_kinds(), 6 * entries)),
        arbitrary_first_index());
}

}  // namespace
}  // namespace dirtyring
