// SPDX-License-Identifier: MIT
#include "dirtyring/snapshot.hpp"

#if defined(__x86_64__)

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "clock.hpp"
#include "copy_choice.hpp"
#include "last_contents.hpp"
#include "snapshot_layer.hpp"

namespace dirtyring {

namespace {

// The same but for where they lie in this process.
bool same_slots(const MemoryMap& a, const MemoryMap& b) {
    return std::ranges::equal(a.slots(), b.slots(), [](MemorySlot x, MemorySlot y) {
        x.host = y.host;
        return x == y;
    });
}

Error wrong(const char* operation, const char* cause, const char* remedy) {
    return {EINVAL, operation, cause, remedy};
}

}  // namespace

struct Snapshot::State {
    State(Tracker& of, GuestParts guest, SnapshotOptions&& how)
        : tracker(of),
          parts(std::move(guest)),
          options(std::move(how)),
          map(of.memory()),
          consumer(of.add_consumer()),
          clean(map) {}

    Tracker& tracker;
    GuestParts parts;
    SnapshotOptions options;
    MemoryMap map;
    Consumer consumer;
    std::shared_ptr<Layer> layer;
    std::vector<VcpuState> vcpus;
    std::optional<VmState> vm;
    DirtySet clean;  // pages that the restore at hand found as they were
    CopyChoice choice;
    LastContents last;

    /// For a snapshot on top of this one, or a clone.
    [[nodiscard]] SnapshotOptions options_of_another() const;
    Result<void> take_state();
    /// Whether the state has timers and clocks, which go on once they are put back.
    [[nodiscard]] bool keeps_time() const { return options.state.system || vm; }
    /// Gives the nanoseconds that it took.
    [[nodiscard]] Result<std::uint64_t> restore_state() const;
    PageContent content(std::uint64_t number, std::uint64_t offset, bool may_add,
                        std::uint64_t& added);
    /// True where the time that it took says what copying takes.
    bool restore_pages(const Pages& pages, RestoreReport& report);
    template <typename Use>
    void for_each_dirty(const Pages& pages, Use&& use) const;
    Result<void> begin(AllVcpusStopped stopped);
    Result<void> make_store();
};

SnapshotOptions Snapshot::State::options_of_another() const {
    SnapshotOptions same;
    same.state = options.state;
    same.hot_pages = options.hot_pages;
    same.replace = options.replace;
    return same;
}

Result<void> Snapshot::State::take_state() {
    vcpus.clear();
    for (const GuestParts::Vcpu& part : parts.vcpus) {
        Result<VcpuState> taken = VcpuState::take(*part.vcpu, options.state);
        if (!taken) {
            return fail(std::move(taken.error()));
        }
        vcpus.push_back(std::move(*taken));
    }
    if (parts.vm != nullptr) {
        Result<VmState> taken = VmState::take(*parts.vm, options.state);
        if (!taken) {
            return fail(std::move(taken.error()));
        }
        vm = std::move(*taken);
    }
    return {};
}

Result<std::uint64_t> Snapshot::State::restore_state() const {
    const Clock::time_point start = Clock::now();
    for (std::size_t i = 0; i < vcpus.size(); ++i) {
        const auto [vcpu, run] = parts.vcpus[i];
        Result<void> done =
            run != nullptr ? vcpus[i].restore(*vcpu, *run) : vcpus[i].restore(*vcpu);
        if (!done) {
            return fail(std::move(done.error()));
        }
    }
    const Result<void> done = vm ? vm->restore(*parts.vm) : Result<void>();
    return done.map([&] { return nanoseconds(Clock::now() - start); });
}

// What was written before is not this snapshot's.
Result<void> Snapshot::State::begin(AllVcpusStopped stopped) {
    tracker.keep_hot(options.hot_pages);
    return consumer.collect(stopped).map([](Epoch&& epoch) { epoch.commit(); });
}

Result<void> Snapshot::State::make_store() {
    return PageStore::create(clean.numbers(), map.bytes() / page_size)
        .map([this](PageStore&& made) { layer->store = std::move(made); });
}

// Calls use(number, slot, page in the slot, its place in a file) for each page.
template <typename Use>
void Snapshot::State::for_each_dirty(const Pages& pages, Use&& use) const {
    for (std::size_t place = 0; place < map.slots().size(); ++place) {
        const MemorySlot& slot = map.slots()[place];
        const std::uint64_t first = clean.number(slot.slot, 0);
        const std::uint64_t start = map.file_offset({place, 0});
        const auto use_page = [&](std::uint64_t page) {
            use(first + page, slot, page, start + page * page_size);
        };
        if (pages.everything()) {
            for (std::uint64_t page = 0; page < slot.pages(); ++page) {
                use_page(page);
            }
        } else {
            pages.set().pages(place).for_each(use_page);
        }
    }
}

// Pages are asked for in ascending order. What is not on the list of the last restore is looked up
// where it needs the fewest tables, each of which has a cache line for each page.
PageContent Snapshot::State::content(std::uint64_t number, std::uint64_t offset, bool may_add,
                                     std::uint64_t& added) {
    // A second copy takes some 10 times as long to make, in memory that is new to the host, as it
    // saves each time: it is for pages that have been in so many restores in a row.
    constexpr std::uint32_t enough = 16;
    constexpr std::uint32_t copied = enough + 1;
    LastContents::Page page{.number = number, .walks = 0, .content = {}};
    if (const LastContents::Page* const before = last.find(number)) {
        page = *before;
        page.walks += page.walks < enough ? 1U : 0U;
    } else {
        page.content = layer->find_any(number, offset);
    }
    if (page.walks == enough && may_add && page.content.lines != 0 && !options.replace) {
        const PageContent copy = layer->store.find(number);
        added += copy.bytes == nullptr ? 1U : 0U;
        page.content = copy.bytes == nullptr ? layer->store.add(number, page.content.bytes) : copy;
        page.walks = copied;
    }
    last.keep(page);
    return page.content;
}

bool Snapshot::State::restore_pages(const Pages& pages, RestoreReport& report) {
    struct Job {
        std::byte* to = nullptr;
        PageContent from;
        std::uint64_t number = 0;
    };
    // After a loss nearly all pages are as they were, and must not be dirtied for nothing.
    const bool all = pages.everything();
    const PageCopy copy = all ? copy_changed_lines : choice.choose();
    // A copy takes some ten times as long to make as to restore a page: one in so many, so that no
    // restore takes much longer than others.
    constexpr std::uint64_t one_in = 20;
    std::uint64_t added = 0;
    last.begin();
    Job next;
    const auto finish = [&](const Job& job, const std::byte* after) {
        if (copy(job.to, job.from, after)) {
            ++report.changed;
        } else {
            clean.insert_number(job.number);
        }
    };
    for_each_dirty(pages, [&](std::uint64_t number, const MemorySlot& slot, std::uint64_t page,
                              std::uint64_t offset) {
        ++report.pages;
        PageContent from = all ? layer->find_any(number, offset)
                               : content(number, offset, added * one_in < report.pages, added);
        if (options.replace) {
            from = {options.replace(slot.guest_address + page * page_size, from.bytes)};
            if (from.bytes == nullptr) {
                return;
            }
        }
        const Job job{slot.host + page * page_size, from, number};
        __builtin_prefetch(from.bytes +
                           std::size_t{64} *
                               (static_cast<unsigned>(std::countr_zero(from.lines)) % 64));
        if (next.to != nullptr) {
            finish(next, job.to);
        }
        next = job;
    });
    if (next.to != nullptr) {
        finish(next, next.to);
    }
    return added == 0 && !all;
}

Snapshot::Snapshot(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Snapshot::Snapshot(Snapshot&&) noexcept = default;
Snapshot& Snapshot::operator=(Snapshot&&) noexcept = default;
Snapshot::~Snapshot() = default;

Result<Snapshot> Snapshot::take(Tracker& tracker, GuestParts parts, AllVcpusStopped stopped,
                                SnapshotOptions options) {
    auto state = std::make_unique<State>(tracker, std::move(parts), std::move(options));
    // First: what the host writes and marks while memory is copied is then restored.
    if (Result<void> begun = state->begin(stopped); !begun) {
        return fail(std::move(begun.error()));
    }
    Result<std::shared_ptr<const Image>> image =
        Image::take(state->clean, std::move(state->options.image), state->options.progress);
    if (!image) {
        return fail(std::move(image.error()));
    }
    state->layer = std::make_shared<Layer>(Layer{*image, nullptr, PageStore()});
    const Result<void> done = state->make_store().and_then([&] { return state->take_state(); });
    if (!done) {
        return fail(done.error());
    }
    return Snapshot(std::move(state));
}

Result<Snapshot> Snapshot::take_nested(AllVcpusStopped stopped) {
    // Before anything is collected for the outer one: what it collects is the inner one's past.
    Result<Epoch> written = state_->consumer.collect(stopped);
    if (!written) {
        return fail(std::move(written.error()));
    }
    auto state =
        std::make_unique<State>(state_->tracker, state_->parts, state_->options_of_another());
    if (!same_slots(state->map, state_->map)) {
        return fail(wrong("Snapshot::take_nested", "the memory slots have changed since",
                          "take the outer snapshot anew"));
    }
    state->layer = std::make_shared<Layer>(Layer{state_->layer->image, state_->layer, PageStore()});
    const Result<void> done =
        state->make_store().and_then([&] { return state->begin(stopped); }).and_then([&] {
            return state->take_state();
        });
    if (!done) {
        return fail(done.error());
    }
    state->for_each_dirty(written->pages(), [&](std::uint64_t number, const MemorySlot& slot,
                                                std::uint64_t page, std::uint64_t offset) {
        const std::byte* const content = slot.host + page * page_size;
        if (std::memcmp(content, state->layer->find(number, offset).bytes, page_size) != 0) {
            state->layer->store.add(number, content);
        }
    });
    return Snapshot(std::move(state));  // `written` goes, and the outer one has its pages again
}

Result<RestoreReport> Snapshot::restore(AllVcpusStopped stopped) {
    State& state = *state_;
    RestoreReport report;
    // First, while the kernel's part of the vCPUs is still in the CPU's caches; but what keeps time
    // last, as it would go on while pages are copied.
    Result<std::uint64_t> restored = state.keeps_time() ? 0 : state.restore_state();
    if (!restored) {
        return fail(std::move(restored.error()));
    }
    const Clock::time_point start = Clock::now();
    Result<Epoch> epoch = state.consumer.collect(stopped);
    if (!epoch) {
        return fail(std::move(epoch.error()));
    }
    const Pages& pages = epoch->pages();
    if (!same_slots(pages.set().memory(), state.map)) {
        return fail(wrong("Snapshot::restore", "the memory slots are not those of the snapshot",
                          "take it anew when slots have changed"));
    }
    const Clock::time_point collected = Clock::now();
    epoch->rewrite();
    const bool telling = state.restore_pages(pages, report);
    report.everything = pages.everything();
    const Clock::time_point copied = Clock::now();
    epoch->commit(state.clean);
    state.clean.clear();
    report.hot = state.tracker.source().hot();
    report.copy_nanoseconds = nanoseconds(copied - collected);
    report.collect_nanoseconds = nanoseconds(Clock::now() - start) - report.copy_nanoseconds;
    if (state.keeps_time()) {
        restored = state.restore_state();
        if (!restored) {
            return fail(std::move(restored.error()));
        }
    }
    report.state_nanoseconds = *restored;
    if (telling) {
        state.choice.took(report.pages, report.copy_nanoseconds);
    }
    return report;
}

Result<std::string> Snapshot::verify(AllVcpusStopped) const {
    const State& state = *state_;
    Pages all{DirtySet(state.map), Rearmed()};
    all.mark_everything();
    std::string found;
    state.for_each_dirty(all, [&](std::uint64_t number, const MemorySlot& slot, std::uint64_t page,
                                  std::uint64_t offset) {
        const std::byte* const content = state.layer->find(number, offset).bytes;
        const std::uint64_t address = slot.guest_address + page * page_size;
        const bool as_was =
            std::memcmp(slot.host + page * page_size, content, page_size) == 0 ||
            (state.options.replace && state.options.replace(address, content) != content);
        if (found.empty() && !as_was) {
            found = "memory at guest address " + std::to_string(address);
        }
    });
    for (std::size_t i = 0; i < state.vcpus.size() && found.empty(); ++i) {
        // What waits in kvm_run is not to be read by any call: it is put where it belongs.
        const auto [vcpu, run] = state.parts.vcpus[i];
        if (run != nullptr && run->kvm_dirty_regs != 0) {
            run->kvm_dirty_regs = 0;
            if (Result<void> restored = state.vcpus[i].restore(*vcpu); !restored) {
                return fail(std::move(restored.error()));
            }
        }
        const Result<VcpuState> now = VcpuState::take(*vcpu, state.options.state);
        if (!now) {
            return fail(now.error());
        }
        if (const std::string names = state.vcpus[i].difference(*now); !names.empty()) {
            found = "vCPU " + std::to_string(i) + ": " + names;
        }
    }
    if (state.vm && found.empty()) {
        const Result<VmState> now = VmState::take(*state.parts.vm, state.options.state);
        if (!now) {
            return fail(now.error());
        }
        found = state.vm->difference(*now);
    }
    return found;
}

Result<kvm::Mapping> Snapshot::map_memory() const {
    if (state_->layer->below != nullptr) {
        return fail(wrong("Snapshot::map_memory", "a nested snapshot has no memory of its own",
                          "clone the outer one"));
    }
    return kvm::Mapping::copy_on_write(state_->layer->image->file,
                                       static_cast<std::size_t>(state_->map.bytes()),
                                       "memory of a clone");
}

Result<Snapshot> Snapshot::clone_to(Tracker& tracker, GuestParts parts,
                                    AllVcpusStopped stopped) const {
    auto state = std::make_unique<State>(tracker, std::move(parts), state_->options_of_another());
    if (state_->layer->below != nullptr || !same_slots(state->map, state_->map) ||
        state->parts.vcpus.size() != state_->vcpus.size() ||
        (state->parts.vm != nullptr) != state_->vm.has_value()) {
        return fail(wrong("Snapshot::clone_to",
                          "that VM has other slots or vCPUs than the snapshot, or it is nested",
                          "make the VM like the one that the outer snapshot was taken of"));
    }
    state->layer = std::make_shared<Layer>(Layer{state_->layer->image, nullptr, PageStore()});
    state->vcpus = state_->vcpus;
    state->vm = state_->vm;
    const Result<void> done =
        state->make_store().and_then([&] { return state->begin(stopped); }).and_then([&] {
            return state->restore_state().map([](std::uint64_t) {});
        });
    if (!done) {
        return fail(done.error());
    }
    return Snapshot(std::move(state));
}

}  // namespace dirtyring

#endif
