// SPDX-License-Identifier: MIT
//
// What a tracker, its consumers and their epochs share.
//
// Locks: mutex_ is held by whoever collects, for as long as that takes, and guards all below it. A
// source has a lock of its own, which is taken inside. vcpus_mutex_ comes last, is held for a few
// loads and stores and never over a call of the source, and guards the list of vCPUs. vCPUs take
// one of these two at a time and not mutex_, so that none waits for a whole collect; marks take
// none.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "clock.hpp"
#include "cost_meter.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "dirtyring/tracker.hpp"
#include "mark_board.hpp"

namespace dirtyring {

struct Consumer::State {
    explicit State(const MemoryMap& memory) : pending(memory) {}

    DirtySet pending;  // changed, and in none of its epochs
    bool everything = false;
    std::uint64_t sequence = 0;    // of the last epoch
    std::vector<VcpuCounts> told;  // sums over its epochs, but for aborted ones

    /// What ended epochs leave for the next.
    struct Spare {
        DirtySet set;
        std::vector<VcpuCounts> vcpus;
    };
    std::vector<Spare> spares;
};

class Tracker::State {
  public:
    explicit State(std::unique_ptr<Source> source);

    std::shared_ptr<Consumer::State> add_consumer();
    void remove_consumer(const std::shared_ptr<Consumer::State>& consumer);

    /// `stopped`: null, or the caller's word.
    static Result<Epoch> collect(const std::shared_ptr<State>& self,
                                 const std::shared_ptr<Consumer::State>& consumer,
                                 const AllVcpusStopped* stopped);
    /// `clean`: null, or what the consumer found unchanged.
    void end(Consumer::State& consumer, Pages pages, std::vector<VcpuCounts> vcpus, bool committed,
             const DirtySet* clean);
    void rewrite(const Consumer::State& by, const Pages& pages);
    void keep_hot(std::uint64_t most);

    Result<std::size_t> add_vcpu(const kvm::Fd& vcpu);
    Result<std::size_t> add_vcpu(Ring ring);
    Result<void> remove_vcpu(std::size_t vcpu, VcpuStopped stopped);
    std::vector<std::size_t> vcpus();

    Result<void> change_slots(AllVcpusStopped stopped,
                              const std::function<Result<void>(MemoryMap&)>& change);
    MemoryMap memory();

    Statistics statistics();
    void note_stopped(std::size_t vcpu, std::uint64_t nanoseconds);

    Source& source() noexcept { return *source_; }
    RingSource* rings() noexcept { return rings_; }
    MarkBoard& marks() noexcept { return marks_; }

  private:
    struct Vcpu {
        bool removed = false;
        std::uint64_t stopped_nanoseconds = 0;  // beside what its ring knows of
    };

    // With mutex_ held:
    Result<Pages> collect_source(DirtySet storage);
    [[nodiscard]] std::uint64_t entries() const;
    void measure_costs();
    void take_marks(Pages& pages);
    void distribute(Pages& pages, Consumer::State& to);
    [[nodiscard]] Result<void> check(std::size_t vcpu, const char* operation) const;
    void tell_vcpus(Consumer::State& consumer, std::vector<VcpuCounts>& to);

    const std::unique_ptr<Source> source_;
    RingSource* const rings_;
    MarkBoard marks_;
    const Clock::time_point start_ = Clock::now();

    std::mutex mutex_;
    MemoryMap memory_;
    DirtySet marked_;  // empty between two calls
    std::vector<std::shared_ptr<Consumer::State>> consumers_;
    // For the source's choice of hot pages, where there are to be any: an epoch's pages are used
    // until it ends, and from then on the guest runs.
    bool hot_ = false;
    CostMeter armed_{HotPageCosts().armed};
    std::uint64_t entries_ = 0;  // read when it was last added to
    double use_ = HotPageCosts().use;
    Clock::time_point collected_;
    Clock::time_point ended_;
    Statistics statistics_;    // what is counted here; the rest is asked for when it is wanted
    std::uint64_t pages_ = 0;  // that collects gave, counted where there are no rings
    MovingRate page_rate_;     // of these

    std::mutex vcpus_mutex_;
    // Grows with both held, and so does `removed` change: who holds either sees them as they are.
    std::vector<Vcpu> vcpus_;
};

}  // namespace dirtyring
