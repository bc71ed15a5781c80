// SPDX-License-Identifier: MIT
#include "dirtyring/source/ring_source.hpp"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "../clock.hpp"
#include "rearm_plan.hpp"

namespace dirtyring {

namespace {

std::uint64_t nanoseconds_since(Clock::time_point start) {
    return nanoseconds(Clock::now() - start);
}

// The soft limit of a ring, at the least: KVM_DIRTY_RING_RSVD_ENTRIES are kept free, and on Intel
// the 512 of the page-modification log, with which a ring has at least 1,024
// (virt/kvm/dirty_ring.c, kvm_dirty_ring_get_rsvd_entries).
std::uint32_t least_soft_limit(std::uint32_t size) {
    const std::uint32_t reserved = size < 1024 ? 64 : 64 + 512;
    return size > reserved ? size - reserved : 1;
}

Error no_such_ring(const char* operation, std::size_t number) {
    return {ENOENT,
            std::string(operation) + "(ring " + std::to_string(number) + ")",
            "no ring has that number, or it has been removed",
            {}};
}

}  // namespace

RingSource::RingSource(const kvm::Fd& vm, const MemoryMap& map, RingBackup backup)
    : vm_(kvm::Vm::adopt(vm.ref())),
      handle_(vm),
      pending_(map),
      plan_(std::make_unique<RearmPlan>(map)),
      suspects_(map) {
    if (backup == RingBackup::bitmap) {
        backup_.emplace(vm, BitmapMode::automatic);
    }
}

RingSource::~RingSource() = default;

std::size_t RingSource::add(Ring ring) {
    const std::lock_guard lock(mutex_);
    readers_.push_back({.ring = std::move(ring), .statistics = {}});
    return readers_.size() - 1;
}

Result<void> RingSource::remove(std::size_t number, VcpuStopped stopped) {
    const std::lock_guard lock(mutex_);
    if (number >= readers_.size() || !readers_[number].ring) {
        return fail(no_such_ring("RingSource::remove", number));
    }
    Reader& reader = readers_[number];
    if (reader.step != Step::in) {
        find_step(reader, stopped);
    }
    Result<void> settled = harvest_and_settle();
    if (settled) {
        reader.ring = std::nullopt;
    }
    return settled;
}

std::size_t RingSource::size() const {
    const std::lock_guard lock(mutex_);
    return readers_.size();
}

std::uint32_t RingSource::entries() const {
    const std::lock_guard lock(mutex_);
    std::uint32_t least = 0;
    for (const Reader& reader : readers_) {
        if (reader.ring && (least == 0 || reader.ring->size() < least)) {
            least = reader.ring->size();
        }
    }
    return least;
}

std::uint64_t RingSource::logged(std::size_t number) const {
    const std::lock_guard lock(mutex_);
    if (number >= readers_.size()) {
        return 0;
    }
    const Reader& reader = readers_[number];
    return reader.statistics.entries + (reader.ring ? reader.ring->fill() : 0);
}

std::uint32_t RingSource::fill() const {
    const std::lock_guard lock(mutex_);
    std::uint32_t most = 0;
    for (const Reader& reader : readers_) {
        most = std::max(most, reader.ring ? reader.ring->fill() : 0);
    }
    return most;
}

RingStatistics RingSource::statistics(std::size_t number) const {
    const std::lock_guard lock(mutex_);
    return number < readers_.size() ? readers_[number].statistics : RingStatistics();
}

RingSourceStatistics RingSource::statistics() const {
    const std::lock_guard lock(mutex_);
    RingSourceStatistics statistics = statistics_;
    statistics.suspects = suspects_.size();
    return statistics;
}

std::uint32_t RingSource::take(Reader& reader) {
    RingStatistics& statistics = reader.statistics;
    const std::uint32_t taken =
        pending_.take_by(*reader.ring, [&](const Ring::Batch& batch, DirtySet& pages) {
            statistics.fresh += plan_->apply(batch, pages);
        });
    statistics.entries += taken;
    statistics.largest_fill = std::max(statistics.largest_fill, taken);
    reader.unreset += taken;
    return taken;
}

void RingSource::harvest() {
    const Clock::time_point start = Clock::now();
    for (Reader& reader : readers_) {
        if (!reader.ring) {
            continue;
        }
        if (reader.step != Step::in) {
            // Which entries come first is not to be seen while the vCPU runs. They wait until its
            // ring is full.
            loss_ |= reader.ring->out_of_step() || !reader.ring->peek(1).empty();
            continue;
        }
        const std::uint32_t taken = take(reader);
        reader.statistics.rate.add(taken, start);
        if (taken == reader.ring->size()) {
            // The soft limit keeps a working kernel from ever filling the last places.
            reader.step = Step::lost;
        }
        if (reader.unreset >= reader.ring->size()) {
            // No ring holds as many: some were written over others.
            ++reader.statistics.overruns;
            loss_ = true;
        }
    }
    statistics_.harvest.add(nanoseconds_since(start));
}

Result<void> RingSource::settle() {
    const Clock::time_point start = Clock::now();
    Result<ResetReport> report = handle_.settle(pending_);
    if (!report) {
        return fail(std::move(report.error()));
    }
    statistics_.reset.add(nanoseconds_since(start));
    if (report->short_return) {
        ++statistics_.short_resets;
        pending_.copy_to(suspects_);
    }
    loss_ |= report->missing != 0;
    for (Reader& reader : readers_) {
        if (!reader.ring) {
            continue;
        }
        // ResetReport::missing is not enough: what one ring lacks there, another may have too much,
        // having lacked it before.
        if (reader.ring->reset_pending()) {
            loss_ = true;  // released and not re-armed, until ring_full cures it
        } else {
            reader.unreset = 0;
        }
    }
    return {};
}

Result<void> RingSource::harvest_and_settle() {
    harvest();
    return settle();
}

Result<void> RingSource::drain() {
    const std::lock_guard lock(mutex_);
    return harvest_and_settle();
}

// Turning a slot's logging off and on write-protects all of it (arch/x86/kvm/x86.c,
// kvm_mmu_slot_apply_flags; arch/arm64/kvm/mmu.c, kvm_arch_commit_memory_region): the one way to
// arm pages whose entries are gone. A bitmap beside the rings is emptied by that.
Result<void> RingSource::rearm(std::size_t place) const {
    const MemorySlot& slot = pending_.memory().slots()[place];
    Result<void> changed;
    for (const std::uint32_t flags : {std::uint32_t{0}, std::uint32_t{KVM_MEM_LOG_DIRTY_PAGES}}) {
        changed = vm_.set_user_memory_region(slot.region(flags));
        if (!changed) {
            break;
        }
    }
    return changed;
}

Result<void> RingSource::rearm_all() {
    for (std::size_t place = 0; place < pending_.memory().slots().size(); ++place) {
        if (Result<void> done = rearm(place); !done) {
            return done;
        }
    }
    suspects_.clear();
    if (HotPages* const hot = plan_->hot()) {
        hot->all_armed();
    }
    return {};
}

// They stay writable, and are no longer known as hot.
void RingSource::suspect_hot_pages() {
    if (HotPages* const hot = plan_->hot()) {
        suspects_.merge(hot->words());
        hot->all_armed();
    }
}

void RingSource::keep_hot(std::uint64_t most) {
    const std::lock_guard lock(mutex_);
    suspect_hot_pages();
    plan_->keep_hot(most);
}

void RingSource::set_hot_costs(const HotPageCosts& costs) {
    const std::lock_guard lock(mutex_);
    if (HotPages* const hot = plan_->hot()) {
        hot->set_costs(costs);
    }
}

void RingSource::found_clean(const DirtySet& pages) {
    const std::lock_guard lock(mutex_);
    if (HotPages* const hot = plan_->hot()) {
        pages.for_each_number([&](std::uint64_t number) { hot->found_clean(number); });
        hot->told();
    }
}

std::uint64_t RingSource::hot() const {
    const std::lock_guard lock(mutex_);
    const HotPages* const hot = plan_->hot();
    return hot != nullptr ? hot->size() : 0;
}

Result<void> RingSource::rearm_suspects(AllVcpusStopped) {
    const std::lock_guard lock(mutex_);
    const double slots = static_cast<double>(pending_.memory().slots().size());
    if (const HotPages* const hot = plan_->hot();
        hot != nullptr && hot->worth_arming_all(rearm_nanoseconds_ * slots)) {
        suspect_hot_pages();
    }
    if (suspects_.empty()) {
        return {};
    }
    // What the toggle would throw away is for the next collect.
    if (Result<void> read = backup_ ? pending_.take(*backup_) : Result<void>(); !read) {
        return read;
    }
    for (std::size_t place = 0; place < suspects_.memory().slots().size(); ++place) {
        if (suspects_.pages(place).size() == 0) {
            continue;
        }
        const Clock::time_point start = Clock::now();
        if (Result<void> done = rearm(place); !done) {
            loss_ = true;  // the slot may be left without logging
            return done;
        }
        rearm_nanoseconds_ = static_cast<double>(nanoseconds_since(start));
    }
    suspects_.clear();
    return {};
}

void RingSource::set_memory(const MemoryMap& map, AllVcpusStopped) {
    const std::lock_guard lock(mutex_);
    suspect_hot_pages();
    pending_.set_memory(map);
    plan_->set_memory(map);
    DirtySet suspects(map);
    suspects.merge_over(suspects_);
    suspects_ = std::move(suspects);
}

MemoryMap RingSource::memory() const {
    const std::lock_guard lock(mutex_);
    return pending_.memory();
}

Result<Pages> RingSource::collect(DirtySet storage) {
    const std::lock_guard lock(mutex_);
    storage.prepare(pending_.memory());
    // What was used last is in the CPU's caches, and the other set stays out of them.
    pending_.use(storage);
    Result<void> settled = harvest_and_settle();
    if (settled && loss_) {
        settled = rearm_all();
    }
    if (settled && backup_) {
        // Last: what KVM writes while the rings are harvested is then in this collect already.
        settled = pending_.take(*backup_);
    }
    if (!settled) {
        return fail(std::move(settled.error()));
    }
    ++statistics_.collects;
    statistics_.stale += pending_.stale();
    statistics_.everything += loss_ ? 1U : 0U;
    Harvest harvested = std::exchange(pending_, Harvest(std::move(storage)));
    Result<Pages> pages = handle_.reset(std::move(harvested));  // settled: no further call
    if (pages && loss_) {
        pages->mark_everything();
    } else if (pages && !suspects_.empty()) {
        pages->mark_suspects(suspects_);
    }
    if (HotPages* const hot = plan_->hot(); pages && hot != nullptr) {
        pages->merge(hot->words());
        hot->end_round();
    }
    loss_ = false;
    return pages;
}

void RingSource::find_step(Reader& reader, VcpuStopped stopped) {
    std::uint32_t runs = 0;
    std::uint32_t passed = 0;
    std::uint32_t taken = 0;
    for (std::uint32_t run = 1; run != 0; taken += run) {
        passed += reader.ring->skip_to_logged(stopped);
        run = take(reader);
        runs += run != 0 ? 1U : 0U;
    }
    if (reader.step == Step::blank && runs == 1 && taken < reader.ring->size()) {
        // All that was logged since the ring was blank, in one piece: the reader stands at its end,
        // where the kernel does, and the places before it are those of the lost entries.
        reader.step = Step::in;
        reader.statistics.lost += passed;
        return;
    }
    if (runs != 0) {
        ++reader.statistics.overruns;
        loss_ = true;
    }
    reader.step = Step::blank;
}

// For places that were offered: that it takes none is believed the second time. A signal that
// cannot be blocked may have ended the first before it took any.
Result<std::uint32_t> RingSource::reset_offered() const {
    Result<std::uint32_t> reset = handle_.reset_once();
    return reset && *reset == 0 ? handle_.reset_once() : reset;
}

// Brings the kernel's reset to where the reader is; gives how many places it was behind. Where the
// kernel wrote over entries that were released and not yet reset, or the reader passed places by,
// these stand behind the reader with their flags clear, and no reset gets past them. The ring must
// have been read and settled.
Result<std::uint32_t> RingSource::align_reset(Reader& reader, VcpuStopped stopped) {
    const std::uint32_t all_but_next = reader.ring->size() - 1;
    reader.ring->offer_behind(all_but_next, stopped);
    Result<std::uint32_t> reset = reset_offered();
    const std::uint32_t taken = reader.ring->withdraw_behind(all_but_next, stopped);
    if (!reset) {
        return reset;
    }
    reader.unreset = 0;
    return taken;
}

// Full, says the kernel, though every entry has been reset and none is logged: it is ahead by at
// least the soft limit, at a place that only its next entry will show. Gives it as many empty
// places as it has surely used.
Result<void> RingSource::push_on(Reader& reader, VcpuStopped stopped) {
    const std::uint32_t used = least_soft_limit(reader.ring->size());
    reader.ring->offer_ahead(used, stopped);
    Result<std::uint32_t> reset = reset_offered();
    if (!reset) {
        return fail(std::move(reset.error()));
    }
    if (*reset == 0) {
        return fail({ENOTRECOVERABLE, "RingSource::ring_full",
                     "the kernel calls the ring full and takes nothing from it",
                     "make sure that it is this vCPU's ring, that the vCPU is of the VM given to "
                     "RingSource, and that nothing else reads the ring"});
    }
    if (reader.step == Step::in) {
        ++reader.statistics.overruns;
    }
    reader.step = Step::blank;
    reader.statistics.lost += used;
    loss_ = true;
    return {};
}

Result<void> RingSource::ring_full(std::size_t number) {
    const Clock::time_point start = Clock::now();
    const std::lock_guard lock(mutex_);
    if (number >= readers_.size() || !readers_[number].ring) {
        return fail(no_such_ring("RingSource::ring_full", number));
    }
    Reader& reader = readers_[number];
    ++reader.statistics.full_exits;
    Result<void> done = make_room(reader);
    reader.statistics.stopped_nanoseconds += nanoseconds_since(start);
    return done;
}

Result<void> RingSource::make_room(Reader& reader) {
    const VcpuStopped stopped;  // in its exit for as long as this call takes
    const std::uint64_t before = reader.statistics.entries;
    const bool repeated = std::exchange(reader.empty_mark, no_mark) == before;
    if (reader.step == Step::in && !repeated && reader.unreset == 0 &&
        reader.ring->peek(1).empty()) {
        reader.empty_mark = before;  // another thread has made room since the exit
        return {};
    }

    const bool out_of_step = reader.step != Step::in;
    if (out_of_step) {
        find_step(reader, stopped);
    }
    Result<void> done = harvest_and_settle();
    if (!done) {
        return done;
    }
    if (reader.step == Step::lost) {
        reader.step = Step::blank;  // that harvest read every place, and the vCPU logged none since
    }
    // A full ring with nothing in it once may mean that another thread was faster. Twice does not.
    const bool stuck = repeated && reader.statistics.entries == before;
    if (out_of_step || stuck) {
        const Result<std::uint32_t> behind = align_reset(reader, stopped);
        if (!behind) {
            return fail(behind.error());
        }
        if (stuck && *behind == 0) {
            done = push_on(reader, stopped);
        }
    }
    if (done) {
        reader.empty_mark = reader.statistics.entries;
    }
    return done;
}

}  // namespace dirtyring
