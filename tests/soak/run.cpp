// SPDX-License-Identifier: MIT
#include "run.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stdexcept>
#include <utility>

#include "dirtyring/pause.hpp"
#include "dirtyring/reaper.hpp"
#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "guests/abi.hpp"
#include "host_memory.hpp"
#include "host_writer.hpp"
#include "machine/layout.hpp"
#include "machine/machine.hpp"
#include "more_slots.hpp"
#include "must.hpp"
#include "signal_storm.hpp"
#include "test_scale.hpp"
#include "visitor.hpp"
#include "write_count.hpp"

namespace dirtyring::soak {

namespace {

using machine::Machine;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
// Guest memory: the guest's program and heap, then what visiting vCPUs write, then what the host
// writes, the first page of which has the visitors' program.
constexpr std::uint64_t memory_size = 32 * mib;
constexpr VisitorRange visitor_range = {.code = 28 * mib, .data = 24 * mib};
constexpr HostRange host_range = {.first = 28 * mib / page_size + 1,
                                  .pages = 4 * mib / page_size - 1};

constexpr Habits eager = {.name = "eager"};
constexpr Habits slow = {.name = "slow", .every = 3};
constexpr Habits fickle = {.name = "fickle", .abort_percent = 40, .most_open = 2};
constexpr Habits late = {.name = "late", .every = 2, .abort_percent = 10};

machine::Config config_of(const Case& what) {
    machine::Config config;
    config.vcpus = what.vcpus;
    config.memory = memory_size;
    config.ring_entries = what.entries;
    config.log_dirty = true;
    config.manual_protect = what.way == Tracking::manual_bitmap;
    config.privilege = what.privilege;
    config.params = what.params;
    return config;
}

std::vector<HostRange> ranges_of(const Case& what, Machine& machine) {
    std::vector<HostRange> ranges = {host_range};
    if (what.guest == "writer") {
        guest_abi::Info info;
        std::memcpy(&info, machine.bytes().data() + machine::layout::info, sizeof info);
        // As much of its working set as there is in each case.
        ranges.push_back({info.heap_base / page_size, 64, true});
    }
    return ranges;
}

class Run {
  public:
    Run(const Case& what, const std::string& guests, const Progress& progress);
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;
    ~Run();
    Outcome go();

  private:
    std::unique_ptr<Machine> make_machine(const std::string& guests);
    std::unique_ptr<Source> make_source();
    [[nodiscard]] bool wait_for(std::uint64_t writes);
    void follow_guest();
    void check(bool last);
    void change_slots(const Pause& pause);
    void consumers_come_and_go();

    // The other threads. Each goes by the guest's page writes and ends with them.
    std::vector<std::future<void>> start_others();
    void go_by_writes(std::uint64_t least, std::uint64_t most, std::uint64_t seed,
                      const std::function<bool()>& act);

    [[nodiscard]] Outcome outcome();

    const Case what_;
    const Progress& progress_;
    guest::Random random_;
    WriteCount writes_;
    HostMemory::Windows windows_ = HostMemory::make_windows();  // outlives the VM
    std::unique_ptr<Machine> machine_;
    HostMemory memory_;
    MoreSlots more_slots_;
    Visitors visitors_;
    std::optional<Tracker> tracker_;
    std::optional<HostWriter> host_writer_;
    SignalStorm storm_;

    // Who writes memory, but for the machine's vCPUs, holds it shared.
    std::shared_mutex running_;
    std::unique_lock<std::shared_mutex> still_{running_, std::defer_lock};
    VcpuControl control_;
    MemoryMap slots_;  // changed with running_ held alone

    std::mutex watchers_mutex_;  // against the thread that follows; not for eager_ and late_
    std::optional<Watcher> eager_;
    std::optional<Watcher> slow_;
    std::optional<Watcher> fickle_;
    std::optional<Watcher> late_;

    Outcome outcome_;
};

Run::Run(const Case& what, const std::string& guests, const Progress& progress)
    : what_(what),
      progress_(progress),
      random_(what.seed),
      machine_(make_machine(guests)),
      memory_(machine_->bytes(), windows_),
      more_slots_(machine_->vm(), memory_, random_.next()),
      visitors_(*machine_, visitor_range),
      storm_(random_.next()),
      control_({.kick = [](std::size_t) {},  // `wait` kicks them all
                .wait = [this]() -> Result<void> {
                    machine_->pause();
                    still_.lock();
                    return {};
                },
                .resume =
                    [this] {
                        still_.unlock();
                        static_cast<void>(machine_->resume());  // it is paused
                    }}),
      slots_(machine_->memory()) {
    tracker_.emplace(make_source());
    for (std::uint32_t i = 0; i < what.vcpus; ++i) {
        must(tracker_->add_vcpu(machine_->vcpu(i).fd()));
    }
    host_writer_.emplace(*tracker_, ranges_of(what, *machine_), random_.next());
    eager_.emplace(eager, *tracker_, memory_, random_.next());
    slow_.emplace(slow, *tracker_, memory_, random_.next());
    fickle_.emplace(fickle, *tracker_, memory_, random_.next());
    outcome_.consumers = 3;
    outcome_.wanted = scaled(what.writes);
}

// The vCPUs' threads use the tracker, which goes before the machine.
Run::~Run() {
    machine_->stop();
    machine_->wait_done();
}

std::unique_ptr<Machine> Run::make_machine(const std::string& guests) {
    machine::Callbacks callbacks;
    callbacks.on_ring_full = [this](std::uint32_t vcpu) { return tracker_->ring_full(vcpu); };
    callbacks.on_round = [this](std::uint32_t, std::uint64_t writes) { writes_.add(writes); };
    const std::string path = guests + "/" + what_.guest;
    const std::vector<std::byte> file = must(machine::read_file(path));
    return must(Machine::create(config_of(what_), {path, file}, std::move(callbacks)));
}

std::unique_ptr<Source> Run::make_source() {
    switch (what_.way) {
        case Tracking::bitmap:
        case Tracking::manual_bitmap:
            return std::make_unique<BitmapSource>(
                machine_->vm().fd(), machine_->memory(),
                what_.way == Tracking::bitmap ? BitmapMode::automatic : BitmapMode::manual);
        default:
            return std::make_unique<RingSource>(machine_->vm().fd(), machine_->memory());
    }
}

// False where the guest has ended, which it does for no good reason.
bool Run::wait_for(std::uint64_t writes) {
    constexpr int longest = 300;  // seconds, on emulated hardware
    for (int i = 0; i < longest; ++i) {
        if (writes_.wait(writes, std::chrono::seconds(1))) {
            return true;
        }
        if (machine_->wait_done(std::chrono::milliseconds(0))) {
            return false;
        }
    }
    throw std::runtime_error("the guest stands still after " + std::to_string(writes_.now()) +
                             " page writes");
}

Outcome Run::go() {
    must(machine_->start());
    std::unique_ptr<Reaper> reaper;
    if (what_.reaper) {
        reaper = must(Reaper::start(*tracker_));
    }
    std::vector<std::future<void>> others = start_others();
    const SignalStorm::Target target(storm_);
    try {
        follow_guest();
    } catch (...) {
        writes_.end();
        throw;
    }
    writes_.end();
    for (std::future<void>& other : others) {
        other.get();
    }
    if (reaper != nullptr) {
        must(reaper->stop());
        outcome_.drains = reaper->drains();
    }
    check(true);
    return outcome();
}

void Run::follow_guest() {
    constexpr std::uint64_t least_checks = 4;
    const std::uint64_t step = std::min(what_.step, outcome_.wanted / least_checks + 1);
    while ((writes_.now() < outcome_.wanted || outcome_.checks < least_checks) &&
           progress_(writes_.now())) {
        if (!wait_for(writes_.now() + step / 2 + random_.below(step))) {
            break;
        }
        consumers_come_and_go();
        // While all goes on, at the same time as the thread that follows with another.
        if (random_.below(3) == 0) {
            eager_->follow();
        }
        if (late_ && random_.below(3) == 0) {
            late_->follow();
        }
        check(false);
    }
}

void Run::consumers_come_and_go() {
    if (late_ && random_.below(10) == 0) {
        outcome_.seen.add(late_->seen());
        late_.reset();
    } else if (!late_ && random_.below(4) == 0) {
        late_.emplace(late, *tracker_, memory_, random_.next());
        ++outcome_.consumers;
    }
}

void Run::check(bool last) {
    const std::lock_guard lock(watchers_mutex_);
    const Pause pause = must(Pause::begin(*tracker_, control_));
    ++outcome_.checks;
    if (what_.slots && random_.below(4) == 0) {
        change_slots(pause);
    }
    for (std::optional<Watcher>* watcher : {&eager_, &slow_, &fickle_, &late_}) {
        if (*watcher && (last || outcome_.checks % (*watcher)->habits().every == 0)) {
            (*watcher)->check(pause.stopped());
        }
    }
    if (what_.slots && random_.below(4) == 0) {
        change_slots(pause);
    }
}

void Run::change_slots(const Pause& pause) {
    const Result<void> changed = tracker_->change_slots(
        pause.stopped(), [this](MemoryMap& slots) { return more_slots_.change(slots); });
    if (!changed && changed.error().code != MoreSlots::on_purpose) {
        throw std::runtime_error(changed.error().message());
    }
    ++outcome_.slot_changes;
    slots_ = tracker_->memory();
    for (std::optional<Watcher>* watcher : {&eager_, &slow_, &fickle_, &late_}) {
        if (*watcher) {
            (*watcher)->slots_changed(slots_);
        }
    }
}

void Run::go_by_writes(std::uint64_t least, std::uint64_t most, std::uint64_t seed,
                       const std::function<bool()>& act) {
    guest::Random random(seed);
    const SignalStorm::Target target(storm_);
    while (writes_.wait(writes_.now() + least + random.below(most - least)) && act()) {
    }
}

std::vector<std::future<void>> Run::start_others() {
    std::vector<std::future<void>> others;
    const auto start = [&](std::uint64_t least, std::uint64_t most, std::function<bool()> act) {
        others.push_back(std::async(std::launch::async, &Run::go_by_writes, this, least, most,
                                    random_.next(), std::move(act)));
    };
    start(1, 20000, [this] {
        const std::lock_guard lock(watchers_mutex_);
        slow_->follow();
        return true;
    });
    if (what_.host_writes) {
        start(1, 2000, [this] {
            const std::shared_lock lock(running_);
            host_writer_->burst(slots_);
            return true;
        });
    }
    if (what_.visitors) {
        start(1, 100000, [this] {
            visitors_.visit(*tracker_, 1 + visitors_.visits() * 7 % 20, running_);
            return visitors_.visits() < Visitors::most;
        });
    }
    if (what_.signals) {
        start(1, 200, [this] {
            storm_.strike();
            return true;
        });
    }
    return others;
}

Outcome Run::outcome() {
    machine_->stop();
    const std::vector<machine::End> ends = machine_->wait_done();
    for (std::uint32_t i = 0; i < ends.size(); ++i) {
        outcome_.writes += machine_->counters(i).page_writes;
        if (!std::holds_alternative<machine::Stopped>(ends[i])) {
            throw std::runtime_error(machine::describe(i, ends[i]) + machine_->console());
        }
    }
    for (const std::optional<Watcher>* watcher : {&eager_, &slow_, &fickle_, &late_}) {
        if (*watcher) {
            outcome_.seen.add((*watcher)->seen());
        }
    }
    outcome_.host_stores = host_writer_->stores();
    outcome_.visits = visitors_.visits();
    outcome_.signals = storm_.sent();
    const Statistics statistics = tracker_->statistics();
    outcome_.full_exits = statistics.all.full_exits;
    outcome_.overruns = statistics.all.overruns;
    outcome_.short_resets = statistics.short_resets;
    return outcome_;
}

}  // namespace

void Outcome::add(const Outcome& more) {
    writes += more.writes;
    wanted += more.wanted;
    checks += more.checks;
    seen.add(more.seen);
    consumers += more.consumers;
    host_stores += more.host_stores;
    slot_changes += more.slot_changes;
    visits += more.visits;
    signals += more.signals;
    full_exits += more.full_exits;
    overruns += more.overruns;
    short_resets += more.short_resets;
    drains += more.drains;
}

std::string describe(const Outcome& outcome) {
    std::string text = "page writes checked: " + std::to_string(outcome.writes) + " in " +
                       std::to_string(outcome.checks) + " rounds, " +
                       std::to_string(outcome.seen.changed) + " changed pages, " +
                       std::to_string(outcome.seen.lost) + " lost\n";
    const std::pair<std::uint64_t, const char*> also[] = {
        {outcome.consumers, " consumers"},
        {outcome.seen.epochs, " epochs"},
        {outcome.seen.aborted, " aborted"},
        {outcome.seen.everything, " of everything"},
        {outcome.seen.named, " pages named"},
        {outcome.host_stores, " stores by the host"},
        {outcome.slot_changes, " changes of slots"},
        {outcome.visits, " visiting vCPUs"},
        {outcome.signals, " signals"},
        {outcome.full_exits, " full rings"},
        {outcome.overruns, " overruns"},
        {outcome.short_resets, " short resets"},
        {outcome.drains, " drains by the reaper"}};
    const char* before = "";
    for (const auto& [number, words] : also) {
        text += before + std::to_string(number) + words;
        before = ", ";
    }
    return text;
}

Outcome run(const Case& what, const std::string& guests, const Progress& progress) {
    return Run(what, guests, progress).go();
}

}  // namespace dirtyring::soak
