// SPDX-License-Identifier: MIT
#include "dirtyring/tracker.hpp"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "dirtyring/measure.hpp"
#include "tracker_state.hpp"

namespace dirtyring {

namespace {

tl::unexpected<Error> no_rings(const char* operation) {
    return fail({EINVAL, operation, "the source of this tracker reads no rings",
                 "make it over a RingSource (make_source with Tracking::ring)"});
}

/// The sums, the largest fill and the newest rates.
void add(VcpuStatistics& all, const VcpuStatistics& vcpu) {
    all.entries += vcpu.entries;
    all.duplicates += vcpu.duplicates;
    all.full_exits += vcpu.full_exits;
    all.overruns += vcpu.overruns;
    all.lost += vcpu.lost;
    all.largest_fill = std::max(all.largest_fill, vcpu.largest_fill);
    all.stopped_nanoseconds += vcpu.stopped_nanoseconds;
    all.pages_per_second += vcpu.pages_per_second;
    all.recent_pages_per_second += vcpu.recent_pages_per_second;
}

VcpuStatistics told_by(const RingStatistics& ring, std::uint64_t nanoseconds) {
    return {.entries = ring.entries,
            .duplicates = ring.entries - ring.fresh,
            .full_exits = ring.full_exits,
            .overruns = ring.overruns,
            .lost = ring.lost,
            .largest_fill = ring.largest_fill,
            .stopped_nanoseconds = ring.stopped_nanoseconds,
            .pages_per_second = per_second(ring.entries, nanoseconds),
            .recent_pages_per_second = ring.rate.per_second()};
}

void subtract(VcpuCounts& from, const VcpuCounts& what) {
    from.entries -= what.entries;
    from.distinct -= what.distinct;
    from.full_exits -= what.full_exits;
    from.overruns -= what.overruns;
    from.lost -= what.lost;
}

}  // namespace

// What they share --------------------------------------------------------------------------------

Tracker::State::State(std::unique_ptr<Source> source)
    : source_(std::move(source)),
      rings_(source_->rings()),
      memory_(source_->memory()),
      marked_(memory_) {
    marks_.cover(memory_);
    vcpus_.resize(rings_ != nullptr ? rings_->size() : 0);
}

std::shared_ptr<Consumer::State> Tracker::State::add_consumer() {
    const std::lock_guard lock(mutex_);
    auto consumer = std::make_shared<Consumer::State>(memory_);
    // What the vCPUs did before is not this consumer's.
    std::vector<VcpuCounts> before;
    tell_vcpus(*consumer, before);
    consumers_.push_back(consumer);
    return consumer;
}

void Tracker::State::remove_consumer(const std::shared_ptr<Consumer::State>& consumer) {
    const std::lock_guard lock(mutex_);
    std::erase(consumers_, consumer);
}

Result<Pages> Tracker::State::collect_source(DirtySet storage) {
    const Clock::time_point begin = Clock::now();
    Result<Pages> pages = source_->collect(std::move(storage));
    const Clock::time_point end = Clock::now();
    collected_ = end;
    statistics_.collect.add(nanoseconds(end - begin));
    if (pages) {
        ++statistics_.collects;
        statistics_.everything += pages->everything() ? 1U : 0U;
        if (rings_ == nullptr) {
            const std::uint64_t found = pages->size();
            pages_ += found;
            page_rate_.add(found, end);
        }
    }
    return pages;
}

void Tracker::State::take_marks(Pages& pages) {
    marks_.drain(marked_);
    pages.merge(marked_);
    marked_.clear();
}

void Tracker::State::distribute(Pages& pages, Consumer::State& to) {
    take_marks(pages);
    for (const std::shared_ptr<Consumer::State>& other : consumers_) {
        if (other.get() != &to) {
            other->pending.merge(pages.set());
            other->everything |= pages.everything();
        }
    }
    pages.merge(to.pending);
    to.pending.clear();
    if (std::exchange(to.everything, false)) {
        pages.mark_everything();
    }
}

Result<Epoch> Tracker::State::collect(const std::shared_ptr<State>& self,
                                      const std::shared_ptr<Consumer::State>& consumer,
                                      const AllVcpusStopped* stopped) {
    std::unique_lock lock(self->mutex_);
    Consumer::State::Spare spare;
    if (!consumer->spares.empty()) {
        spare = std::move(consumer->spares.back());
        consumer->spares.pop_back();
    }
    Result<Pages> pages = self->collect_source(std::move(spare.set));
    if (!pages) {
        return fail(std::move(pages.error()));
    }
    Result<void> rearmed;
    if (stopped != nullptr && (pages->suspects() != 0 || self->hot_) && self->rings_ != nullptr) {
        rearmed = self->rings_->rearm_suspects(*stopped);
    }
    self->distribute(*pages, *consumer);
    self->tell_vcpus(*consumer, spare.vcpus);
    if (self->hot_) {
        self->measure_costs();
    }
    Epoch epoch(self, consumer, ++consumer->sequence, std::move(*pages), std::move(spare.vcpus));
    lock.unlock();
    if (!rearmed) {
        return fail(std::move(rearmed.error()));  // the epoch goes, its pages stay
    }
    return epoch;
}

// Read from all rings since they were there.
std::uint64_t Tracker::State::entries() const {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; rings_ != nullptr && i < vcpus_.size(); ++i) {
        sum += rings_->statistics(i).entries;
    }
    return sum;
}

// What a page that is written while it is armed costs more than another, from the end of an epoch
// to its collection, and what the use of a page costs, from there to the end. An epoch's own counts
// would be no measure: those of an epoch that was aborted come again in the next.
void Tracker::State::measure_costs() {
    const std::uint64_t now = entries();
    armed_.add(static_cast<double>(now - std::exchange(entries_, now)),
               static_cast<double>(nanoseconds(collected_ - ended_)));
    source_->set_hot_costs({.armed = armed_.cost(), .use = use_});
}

void Tracker::State::keep_hot(std::uint64_t most) {
    const std::lock_guard lock(mutex_);
    source_->keep_hot(most);
    hot_ = most != 0;
    entries_ = entries();
    ended_ = Clock::now();
}

void Tracker::State::end(Consumer::State& consumer, Pages pages, std::vector<VcpuCounts> vcpus,
                         bool committed, const DirtySet* clean) {
    const bool everything = pages.everything();
    DirtySet set = std::move(pages).recycle();
    const std::uint64_t used = committed ? set.clear() : 0;
    const std::lock_guard lock(mutex_);
    ++(committed ? statistics_.committed : statistics_.aborted);
    if (!committed) {
        consumer.pending.merge_over(set);
        consumer.everything |= everything;
        for (std::size_t i = 0; i < vcpus.size(); ++i) {
            subtract(consumer.told[i], vcpus[i]);
        }
    }
    consumer.spares.push_back({std::move(set), std::move(vcpus)});
    if (clean != nullptr && std::ranges::equal(clean->memory().slots(), memory_.slots())) {
        source_->found_clean(*clean);
    }
    ended_ = Clock::now();
    if (hot_ && used != 0 && !everything) {
        constexpr double weight = 0.05;
        const double each =
            static_cast<double>(nanoseconds(ended_ - collected_)) / static_cast<double>(used);
        use_ += (std::min(each, 10 * use_) - use_) * weight;
    }
}

void Tracker::State::rewrite(const Consumer::State& by, const Pages& pages) {
    const std::lock_guard lock(mutex_);
    for (const std::shared_ptr<Consumer::State>& other : consumers_) {
        if (other.get() != &by) {
            other->pending.merge_over(pages.set());
            other->everything |= pages.everything();
        }
    }
}

void Tracker::State::tell_vcpus(Consumer::State& consumer, std::vector<VcpuCounts>& to) {
    to.resize(vcpus_.size());
    consumer.told.resize(vcpus_.size());
    for (std::size_t i = 0; i < vcpus_.size(); ++i) {
        if (rings_ != nullptr) {
            const RingStatistics ring = rings_->statistics(i);
            to[i] = {.entries = ring.entries,
                     .distinct = ring.fresh,
                     .full_exits = ring.full_exits,
                     .overruns = ring.overruns,
                     .lost = ring.lost};
        }
        const VcpuCounts now = to[i];
        subtract(to[i], consumer.told[i]);
        consumer.told[i] = now;
    }
}

Result<std::size_t> Tracker::State::add_vcpu(const kvm::Fd& vcpu) {
    if (rings_ != nullptr) {
        return Ring::adopt(vcpu).and_then(
            [this](Ring&& ring) { return add_vcpu(std::move(ring)); });
    }
    const std::lock_guard lock(mutex_);
    const std::lock_guard vcpus_lock(vcpus_mutex_);
    vcpus_.push_back({});
    return vcpus_.size() - 1;
}

Result<std::size_t> Tracker::State::add_vcpu(Ring ring) {
    if (rings_ == nullptr) {
        return no_rings("Tracker::add_vcpu");
    }
    const std::lock_guard lock(mutex_);
    const std::size_t number = rings_->add(std::move(ring));
    const std::lock_guard vcpus_lock(vcpus_mutex_);
    vcpus_.push_back({});
    return number;
}

Result<void> Tracker::State::check(std::size_t vcpu, const char* operation) const {
    if (vcpu < vcpus_.size() && !vcpus_[vcpu].removed) {
        return {};
    }
    return fail({ENOENT,
                 std::string(operation) + "(vCPU " + std::to_string(vcpu) + ")",
                 "the tracker has no such vCPU",
                 {}});
}

Result<void> Tracker::State::remove_vcpu(std::size_t vcpu, VcpuStopped stopped) {
    const std::lock_guard lock(mutex_);
    Result<void> done = check(vcpu, "Tracker::remove_vcpu");
    if (done && rings_ != nullptr) {
        done = rings_->remove(vcpu, stopped);
    }
    if (done) {
        const std::lock_guard vcpus_lock(vcpus_mutex_);
        vcpus_[vcpu].removed = true;
    }
    return done;
}

std::vector<std::size_t> Tracker::State::vcpus() {
    const std::lock_guard lock(vcpus_mutex_);
    std::vector<std::size_t> there;
    for (std::size_t i = 0; i < vcpus_.size(); ++i) {
        if (!vcpus_[i].removed) {
            there.push_back(i);
        }
    }
    return there;
}

Result<void> Tracker::State::change_slots(AllVcpusStopped stopped,
                                          const std::function<Result<void>(MemoryMap&)>& change) {
    const std::lock_guard lock(mutex_);
    Result<Pages> pages = collect_source({});
    if (!pages) {
        return fail(std::move(pages.error()));
    }
    take_marks(*pages);  // now, as their addresses may be another slot's afterwards
    for (const std::shared_ptr<Consumer::State>& consumer : consumers_) {
        consumer->pending.merge(pages->set());
        consumer->everything |= pages->everything();
    }
    const MemoryMap before = memory_;
    Result<void> changed = change(memory_);
    source_->set_memory(memory_, stopped);
    marks_.cover(memory_);
    marked_.prepare(memory_);
    for (const std::shared_ptr<Consumer::State>& consumer : consumers_) {
        DirtySet pending(memory_);
        pending.merge_over(consumer->pending);
        pending.insert_unknown_to(before);
        consumer->pending = std::move(pending);
    }
    return changed;
}

MemoryMap Tracker::State::memory() {
    const std::lock_guard lock(mutex_);
    return memory_;
}

void Tracker::State::note_stopped(std::size_t vcpu, std::uint64_t nanoseconds) {
    const std::lock_guard lock(vcpus_mutex_);
    if (vcpu < vcpus_.size()) {
        vcpus_[vcpu].stopped_nanoseconds += nanoseconds;
    }
}

Statistics Tracker::State::statistics() {
    const std::lock_guard lock(mutex_);
    Statistics now = statistics_;
    now.nanoseconds = nanoseconds(Clock::now() - start_);
    now.marks_outside = marks_.outside();
    std::unique_lock vcpus_lock(vcpus_mutex_);
    const std::vector<Vcpu> vcpus = vcpus_;
    vcpus_lock.unlock();
    for (std::size_t i = 0; i < vcpus.size(); ++i) {
        VcpuStatistics vcpu;
        if (rings_ != nullptr) {
            vcpu = told_by(rings_->statistics(i), now.nanoseconds);
        }
        vcpu.stopped_nanoseconds += vcpus[i].stopped_nanoseconds;
        vcpu.removed = vcpus[i].removed;
        if (vcpu.removed) {
            vcpu.recent_pages_per_second = 0;  // a rate fades when its ring is read
        }
        add(now.all, vcpu);
        now.vcpus.push_back(vcpu);
    }
    if (rings_ == nullptr) {
        now.all.pages_per_second = per_second(pages_, now.nanoseconds);
        now.all.recent_pages_per_second = page_rate_.per_second();
    } else {
        const RingSourceStatistics rings = rings_->statistics();
        now.short_resets = rings.short_resets;
        now.suspects = rings.suspects;
        now.stale = rings.stale;
        now.harvest = rings.harvest;
        now.reset = rings.reset;
    }
    return now;
}

// Tracker ----------------------------------------------------------------------------------------

Tracker::Tracker(std::unique_ptr<Source> source)
    : state_(std::make_shared<State>(std::move(source))) {}

Tracker::~Tracker() = default;

Consumer Tracker::add_consumer() {
    return {state_, state_->add_consumer()};
}

Result<std::size_t> Tracker::add_vcpu(const kvm::Fd& vcpu) {
    return state_->add_vcpu(vcpu);
}

Result<std::size_t> Tracker::add_vcpu(Ring ring) {
    return state_->add_vcpu(std::move(ring));
}

Result<void> Tracker::remove_vcpu(std::size_t vcpu, VcpuStopped stopped) {
    return state_->remove_vcpu(vcpu, stopped);
}

std::vector<std::size_t> Tracker::vcpus() const {
    return state_->vcpus();
}

Result<void> Tracker::ring_full(std::size_t vcpu) {
    RingSource* const rings = state_->rings();
    return rings != nullptr ? rings->ring_full(vcpu) : no_rings("Tracker::ring_full");
}

void Tracker::keep_hot(std::uint64_t most) {
    state_->keep_hot(most);
}

Result<void> Tracker::drain() {
    RingSource* const rings = state_->rings();
    return rings != nullptr ? rings->drain() : Result<void>();
}

void Tracker::mark(std::uint64_t guest_address, std::uint64_t bytes,
                   std::uint32_t address_space) noexcept {
    if (bytes == 0) {
        return;
    }
    const std::uint64_t first = guest_address / page_size;
    // Not past the end of the address space, and round to its beginning.
    const std::uint64_t rest = std::min(bytes - 1, ~guest_address);
    const std::uint64_t last = (guest_address + rest) / page_size;
    state_->marks().mark(address_space, first, last - first + 1);
}

void Tracker::mark_bitmap(std::uint64_t guest_address, std::span<const std::uint64_t> bitmap,
                          std::uint32_t address_space) noexcept {
    std::uint64_t page = guest_address / page_size;
    for (const std::uint64_t bits : bitmap) {
        state_->marks().mark_word(address_space, page, bits);
        page += 64;
    }
}

Result<void> Tracker::change_slots(AllVcpusStopped stopped,
                                   const std::function<Result<void>(MemoryMap&)>& change) {
    return state_->change_slots(stopped, change);
}

MemoryMap Tracker::memory() const {
    return state_->memory();
}

Statistics Tracker::statistics() const {
    return state_->statistics();
}

void Tracker::note_stopped(std::size_t vcpu, std::uint64_t nanoseconds) {
    state_->note_stopped(vcpu, nanoseconds);
}

Source& Tracker::source() const noexcept {
    return state_->source();
}

}  // namespace dirtyring
