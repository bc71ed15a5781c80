// SPDX-License-Identifier: MIT
//
// Tracker against the rule that it exists for: what was written since a page was last in an epoch
// that a consumer has committed is in the consumer's next epoch. For each consumer the model is a
// set of pages. Where the kernel keeps its own rules an epoch is that set, no page more; where it
// does not, the epoch has at least these pages, or says that it is everything.
#include "dirtyring/tracker.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cerrno>
#include <functional>
#include <iterator>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "dirtyring/kvm/vm.hpp"
#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "fake_kernel.hpp"
#include "full_rings.hpp"
#include "must.hpp"
#include "tracker_command.hpp"

namespace dirtyring::model {
namespace {

constexpr std::uint32_t reserved = 64;
constexpr std::size_t most_vcpus = 3;
constexpr std::size_t most_consumers = 3;

// All pages that can be in a slot: by slot id, block and number.
constexpr std::uint64_t all_pages = std::size(slot_ids) * blocks * block_pages;
using PageBits = std::bitset<all_pages>;

void none(const PageBits& wrong, const char* is) {
    if (wrong.any()) {
        const std::size_t page = wrong._Find_first();
        RC_FAIL("page " + std::to_string(page % block_pages) + " of slot " +
                std::to_string(slot_ids[page / block_pages / blocks]) + " " + is);
    }
}

/// Those of a VcpuCounts, in its order.
using Counts = std::array<std::uint64_t, 5>;

Counts of(const VcpuCounts& counts) {
    return {counts.entries, counts.distinct, counts.full_exits, counts.overruns, counts.lost};
}

// The VM, its users, and what each of them must get to know.
class World {
  public:
    /// `exact`: nothing is to go wrong. `most_hot`: pages that may be hot at a time.
    World(fake::Log log, std::uint32_t first_index, bool exact, std::uint64_t most_hot = 0)
        : exact_(exact),
          kernel_({.vcpus = 0,
                   .entries = entries,
                   .reserved = reserved,
                   .first_index = first_index,
                   .log = log,
                   .slots = {}}),
          tracker_(source(log, kernel_.memory())) {
        kernel_.answer(faults_);
        for (std::byte*& block : memory_) {
            block = kernel_.allocate(block_pages);
        }
        tracker_.keep_hot(most_hot);
        start();
    }

    void act(const Command& command) {
        using Kind = Command::Kind;
        switch (command.kind) {
            case Kind::collect:
            case Kind::collect_stopped:
                if (!clients_.empty()) {
                    collect(clients_[command.who % clients_.size()],
                            command.kind == Kind::collect_stopped);
                }
                break;
            case Kind::commit:
            case Kind::abort:
            case Kind::drop:
                if (!open_.empty()) {
                    end(open_.begin() + static_cast<std::ptrdiff_t>(command.who % open_.size()),
                        command.kind);
                }
                break;
            case Kind::add_consumer:
                add_consumer();
                break;
            case Kind::remove_consumer:
                if (!clients_.empty()) {
                    clients_.erase(clients_.begin() +
                                   static_cast<std::ptrdiff_t>(command.who % clients_.size()));
                }
                break;
            case Kind::drain:
                check(tracker_.drain());
                break;
            case Kind::write:
                if (Vcpu* vcpu = choose(command.who)) {
                    write(*vcpu, command.page, command.count);
                }
                break;
            case Kind::write_until_full:
                if (Vcpu* vcpu = choose(command.who)) {
                    if (vcpu->waiting) {
                        make_room(*vcpu);
                    }
                    write_until_full(*vcpu, command);
                }
                break;
            case Kind::write_during_reset:
                kernel_.during_reset(command.moment, [this, command] { meanwhile(command); });
                break;
            case Kind::write_during_clear:
                kernel_.before_clear([this, command](auto&) { meanwhile(command); });
                break;
            case Kind::write_during_rearm:
                kernel_.around_set_region([this, command] { meanwhile(command); });
                break;
            case Kind::mark:
                mark(command);
                break;
            case Kind::mark_bitmap:
                mark_bitmap(command);
                break;
            case Kind::change_slots:
                change_slots(command.changes, command.moment % most_steps);
                break;
            case Kind::add_vcpu:
                add_vcpu();
                break;
            case Kind::remove_vcpu:
                if (Vcpu* vcpu = choose(command.who)) {
                    remove(*vcpu);
                }
                break;
            case Kind::look_every:
                kernel_.set_look_every(static_cast<std::uint32_t>(command.count));
                break;
            case Kind::kill:
                kernel_.kill_after(command.moment);
                break;
            case Kind::fail:
                faults_.fail_next(faulty::Call::ioctl, EIO, command.moment % most_steps);
                break;
        }
    }

    /// Two rounds with the same pages make them hot.
    void heat() {
        for (int round = 0; round < 2; ++round) {
            write(vcpus_.front(), 0, 10);
            collect_and_commit(false);
        }
        RC_ASSERT(tracker_.source().hot() != 0U);
    }

    /// Nothing goes wrong from here on, and what went wrong before is made up for.
    void calm() {
        kernel_.set_look_every(1);
        kernel_.kill_after(~std::uint32_t{0});
        kernel_.during_reset(0, nullptr);
        forget_hooks();
        static_cast<void>(faults_.fail_next(faulty::Call::uname, EIO));  // in place of any other
        start();
        while (!open_.empty()) {
            end(open_.begin(), Command::Kind::drop);
        }
        tracker_.keep_hot(0);
        collect_and_commit(true);
        // A ring that is out of step is found out and cured at the latest when it has been full.
        for (Vcpu& vcpu : vcpus_) {
            write(vcpu, 0, 2 * entries);
            collect_and_commit(false);
        }
        collect_and_commit(true);
        exact_ = true;
    }

    /// Each page of the VM, in turns of a few, by all vCPUs.
    void write_all() {
        for (std::uint64_t first = 0; first < pages(); first += entries) {
            write(vcpus_[first / entries % vcpus_.size()], first, entries);
            collect_and_commit(false);
        }
    }

    /// By each consumer.
    void collect_and_commit(bool stopped) {
        for (Client& client : clients_) {
            RC_ASSERT(collect(client, stopped));
            end(open_.end() - 1, Command::Kind::commit);
        }
    }

  private:
    struct Vcpu {
        std::uint32_t kernels;  // number, the kernel's
        std::size_t trackers;   // number, the tracker's
        bool waiting = false;   // in an exit because its ring is full
    };
    struct Client {
        std::size_t id;
        Consumer consumer;
        PageBits changed;         // written since they were last in an epoch of his
        PageBits perhaps;         // written shortly before he came
        bool everything = false;  // the kernel has lost pages since
        std::uint64_t sequence = 0;
        std::vector<Counts> told;  // sums over his epochs, and what was before he came
    };
    struct Open {
        std::size_t client;  // id
        PageBits pages;
        bool everything;
        Epoch epoch;
    };

    static std::unique_ptr<Source> source(fake::Log log, const MemoryMap& memory) {
        if (log == fake::Log::rings) {
            return std::make_unique<RingSource>(fake::Kernel::fd(), memory);
        }
        return std::make_unique<BitmapSource>(
            fake::Kernel::fd(), memory,
            log == fake::Log::bitmap ? BitmapMode::automatic : BitmapMode::manual);
    }

    /// All slots, and at least one of each other thing.
    void start() {
        std::vector<SlotChange> all;
        for (std::size_t slot = 0; slot < std::size(slot_ids); ++slot) {
            all.push_back({SlotChange::Kind::remove, slot, 0, 0, 0});
        }
        for (std::size_t slot = 0; slot < std::size(slot_ids); ++slot) {
            all.push_back({SlotChange::Kind::put, slot, slot, 2 * slot, block_pages});
        }
        change_slots(all, ~std::size_t{0});
        RC_ASSERT(pages() == 3 * block_pages);
        if (vcpus_.empty()) {
            add_vcpu();
        }
        if (clients_.empty()) {
            add_consumer();
        }
    }

    // Pages ---------------------------------------------------------------------------------------

    [[nodiscard]] std::size_t bit(const MemorySlot& slot, std::uint64_t page) const {
        const auto id = std::ranges::find(slot_ids, slot.slot) - std::begin(slot_ids);
        const auto block = std::ranges::find(memory_, slot.host) - std::begin(memory_);
        return (static_cast<std::size_t>(id) * blocks + static_cast<std::size_t>(block)) *
                   block_pages +
               page;
    }
    /// Those of all slots.
    template <typename Is>
    [[nodiscard]] PageBits where(Is is) const {
        PageBits some;
        for (const MemorySlot& slot : kernel_.memory().slots()) {
            for (std::uint64_t page = 0; page < slot.pages(); ++page) {
                some.set(bit(slot, page), is(slot, page));
            }
        }
        return some;
    }
    [[nodiscard]] PageBits all() const {
        return where([](auto&, auto) { return true; });
    }
    [[nodiscard]] PageBits unarmed() const {
        return where([&](const MemorySlot& slot, std::uint64_t page) {
            return !kernel_.armed(slot.slot, page);
        });
    }
    [[nodiscard]] std::uint64_t pages() const { return kernel_.memory().bytes() / page_size; }
    PageBits bits(const DirtySet& set) const {
        RC_ASSERT(std::ranges::is_permutation(set.memory().slots(), kernel_.memory().slots()));
        PageBits all;
        set.for_each_run([&](const PageRun& run) {
            RC_ASSERT(run.first + run.count <= run.slot->pages());
            for (std::uint64_t i = 0; i < run.count; ++i) {
                all.set(bit(*run.slot, run.first + i));
            }
        });
        return all;
    }
    void changed(std::size_t page) {
        for (Client& client : clients_) {
            client.changed.set(page);
        }
        uncollected_.set(page);
    }
    void changed(const PageBits& pages) {
        for (Client& client : clients_) {
            client.changed |= pages;
        }
        uncollected_ |= pages;
    }

    // The guest -----------------------------------------------------------------------------------

    Vcpu* choose(std::size_t who) {
        return vcpus_.empty() || pages() == 0 ? nullptr : &vcpus_[who % vcpus_.size()];
    }
    bool store(Vcpu& vcpu, std::uint64_t page) {
        page %= pages();
        const MemorySlot* slot = kernel_.memory().slots().data();
        while (page >= slot->pages()) {
            page -= slot->pages();
            ++slot;
        }
        if (!kernel_.write(vcpu.kernels, slot->slot, page)) {
            return false;
        }
        vcpu.waiting = false;
        if (collecting_) {
            meanwhile_.set(bit(*slot, page));
            return true;
        }
        changed(bit(*slot, page));
        return true;
    }
    void write(Vcpu& vcpu, std::uint64_t first, std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) {
            if (vcpu.waiting || !store(vcpu, first + i)) {
                make_room(vcpu);
                RC_ASSERT(store(vcpu, first + i));
            }
        }
    }
    void write_until_full(Vcpu& vcpu, const Command& command) {
        vcpu.waiting = false;
        for (std::uint64_t i = 0; i < command.count && !vcpu.waiting; ++i) {
            vcpu.waiting = !store(vcpu, command.page + i);
        }
    }
    /// A vCPU that runs while this thread is in a call; one that waits in its exit does not.
    void meanwhile(const Command& command) {
        Vcpu* vcpu = stopped_ ? nullptr : choose(command.who);
        if (vcpu != nullptr && !vcpu->waiting && vcpu != making_room_) {
            write_until_full(*vcpu, command);
        }
    }
    /// The vCPU's thread after KVM_EXIT_DIRTY_RING_FULL, until the vCPU runs on.
    void make_room(Vcpu& vcpu) {
        making_room_ = &vcpu;
        exit_until_it_runs_on(vcpu.trackers, [&] {
            return check(tracker_.ring_full(vcpu.trackers)) && kernel_.may_run(vcpu.kernels);
        });
        vcpu.waiting = false;
        making_room_ = nullptr;
    }
    void add_vcpu() {
        if (vcpus_.size() == most_vcpus) {
            return;
        }
        const std::uint32_t number = kernel_.add_vcpu();
        const std::size_t trackers =
            tracker_.source().rings() != nullptr
                ? must(tracker_.add_vcpu(must(Ring::over(kernel_.ring(number)))))
                : must(tracker_.add_vcpu(kvm::Fd::borrow(-1)));
        vcpus_.push_back({number, trackers});
        check_vcpus();
    }
    void remove(Vcpu& vcpu) {
        making_room_ = &vcpu;  // it does not run
        const bool removed = check(tracker_.remove_vcpu(vcpu.trackers, VcpuStopped()));
        making_room_ = nullptr;
        if (removed) {
            RC_ASSERT(tracker_.remove_vcpu(vcpu.trackers, VcpuStopped()).error().code == ENOENT);
            vcpus_.erase(vcpus_.begin() + (&vcpu - vcpus_.data()));
        }
        check_vcpus();
    }
    void check_vcpus() const {
        std::vector<std::size_t> there;
        for (const Vcpu& vcpu : vcpus_) {
            there.push_back(vcpu.trackers);
        }
        RC_ASSERT(tracker_.vcpus() == there);
    }

    // The host ------------------------------------------------------------------------------------

    /// Pages near a slot, in it or not.
    struct Place {
        std::uint32_t space = 0;
        std::uint64_t first = 0;
    };
    [[nodiscard]] Place near_slot(const Command& command) const {
        const auto slots = kernel_.memory().slots();
        if (slots.empty()) {
            return {};
        }
        const MemorySlot& slot = slots[command.who % slots.size()];
        const std::uint64_t page =
            slot.guest_address / page_size + command.page % (slot.pages() + 10);
        return {slot.slot >> 16, page - std::min<std::uint64_t>(page, 5)};
    }
    /// The pages of which `is(guest page)`.
    template <typename Is>
    void marked(std::uint32_t space, Is is) {
        changed(where([&](const MemorySlot& slot, std::uint64_t page) {
            return slot.slot >> 16 == space && is(slot.guest_address / page_size + page);
        }));
    }
    void mark(const Command& command) {
        const auto [space, first] = near_slot(command);
        const std::uint64_t address = first * page_size + command.moment * 31;
        const std::uint64_t bytes = command.count * 1000;
        tracker_.mark(address, bytes, space);
        marked(space, [&](std::uint64_t page) {
            return (page + 1) * page_size > address && page * page_size < address + bytes;
        });
    }
    void mark_bitmap(const Command& command) {
        const auto [space, near] = near_slot(command);
        const std::uint64_t first = near / 64 * 64;
        std::vector<std::uint64_t> bitmap(1 + command.moment % 4);
        std::uint64_t some = command.count;
        for (std::uint64_t& word : bitmap) {
            some = some * 6364136223846793005 + 1442695040888963407;
            word = some & some >> 13;
        }
        tracker_.mark_bitmap(first * page_size, bitmap, space);
        marked(space, [&](std::uint64_t page) {
            const std::uint64_t i = page - first;
            return page >= first && i / 64 < bitmap.size() && (bitmap[i / 64] >> (i % 64) & 1) != 0;
        });
    }

    // Consumers and epochs ------------------------------------------------------------------------

    void add_consumer() {
        if (clients_.size() == most_consumers) {
            return;
        }
        clients_.push_back({.id = next_id_++,
                            .consumer = tracker_.add_consumer(),
                            .changed = {},
                            .perhaps = uncollected_,
                            .told = counted()});
    }

    /// False where it failed, as it was told to.
    bool collect(Client& client, bool stopped) {
        const PageBits suspects = suspects_ & unarmed();
        stopped_ = stopped;
        collecting_ = true;
        Result<Epoch> epoch =
            stopped ? client.consumer.collect(AllVcpusStopped()) : client.consumer.collect();
        // In place of those measured, where the checks below would count as what an epoch's pages
        // are used for: hardly a page would ever be hot.
        tracker_.source().set_hot_costs({.armed = 3000, .use = 20});
        collecting_ = false;
        stopped_ = false;
        forget_hooks();
        const PageBits meanwhile = std::exchange(meanwhile_, {});
        note_everything();
        if (!check(epoch)) {
            changed(meanwhile);
            return false;
        }
        const bool everything = epoch->pages().everything();
        const PageBits pages = bits(epoch->pages().set());
        RC_ASSERT(epoch->pages().size() == pages.count());
        // An epoch of which no more than the re-arming of suspects failed has had a number.
        RC_ASSERT(epoch->sequence() > client.sequence);
        RC_ASSERT((!exact_ || epoch->sequence() == client.sequence + 1));
        client.sequence = epoch->sequence();

        none(client.changed & ~pages, "was written, and the epoch does not say so");
        none(suspects & ~pages, "is a suspect, and the epoch does not have it");
        RC_ASSERT(everything || !client.everything);
        if (everything) {
            none(all() & ~pages, "is not part of everything");
        }
        if (exact_) {
            RC_ASSERT(!everything);
            none(pages & ~(client.changed | client.perhaps | meanwhile),
                 "has not been written since it was last in an epoch");
        }
        // The next write to a page that is not armed goes unlogged: it may only be so where the
        // record of its last write is still to be read, or where each collect has it: where it is a
        // suspect or hot.
        suspects_ = unarmed() & ~meanwhile;
        none(suspects_ & ~pages, "is not armed after the collect, which does not say it");
        const std::uint64_t hot = tracker_.source().hot();
        RC_ASSERT(suspects_.count() <= tracker_.statistics().suspects + hot);
        if (stopped) {
            RC_ASSERT(suspects_.count() <= hot);
        }

        const PageBits still = meanwhile & ~(pages & ~unarmed());
        uncollected_ = still;
        client.changed.reset();
        client.perhaps.reset();
        client.everything = false;
        for (Client& other : clients_) {
            other.changed |= &other == &client ? still : meanwhile;
        }
        check_counts(client, *epoch);
        open_.push_back({client.id, pages, everything, std::move(*epoch)});
        return true;
    }

    void end(std::vector<Open>::iterator open, Command::Kind how) {
        Client* client = find(open->client);
        if (how != Command::Kind::commit && client != nullptr) {
            client->changed |= open->pages & all();
            client->everything |= open->everything;
            for (std::size_t i = 0; i < open->epoch.vcpus().size(); ++i) {
                std::ranges::transform(client->told[i], of(open->epoch.vcpus()[i]),
                                       client->told[i].begin(), std::minus());
            }
        }
        if (how == Command::Kind::commit) {
            // Whoever says this of a page that was written is wrong, and loses nothing by it.
            DirtySet clean(open->epoch.pages().set().memory());
            open->epoch.pages().for_each_run([&](const PageRun& run) {
                if (run.first % 3 != 0) {
                    clean.insert(run.slot->slot, run.first);
                }
            });
            open->epoch.commit(clean);
        } else if (how == Command::Kind::abort) {
            open->epoch.abort();
        }
        if (how != Command::Kind::drop) {
            RC_ASSERT(open->epoch.pages().size() == 0U);
            open->epoch.abort();  // has been ended: nothing
        }
        open_.erase(open);
    }

    Client* find(std::size_t id) {
        const auto found = std::ranges::find(clients_, id, &Client::id);
        return found == clients_.end() ? nullptr : &*found;
    }

    /// Of each vCPU, up to now.
    [[nodiscard]] std::vector<Counts> counted() const {
        std::vector<Counts> all;
        for (const VcpuStatistics& vcpu : tracker_.statistics().vcpus) {
            all.push_back({vcpu.entries, vcpu.entries - vcpu.duplicates, vcpu.full_exits,
                           vcpu.overruns, vcpu.lost});
        }
        return all;
    }
    void check_counts(Client& client, const Epoch& epoch) const {
        client.told.resize(epoch.vcpus().size());
        for (std::size_t i = 0; i < epoch.vcpus().size(); ++i) {
            std::ranges::transform(client.told[i], of(epoch.vcpus()[i]), client.told[i].begin(),
                                   std::plus());
        }
        RC_ASSERT(client.told == counted());
    }

    /// What the kernel lost, it lost for all.
    void note_everything() {
        const std::uint64_t now = tracker_.statistics().everything;
        if (std::exchange(everything_, now) != now) {
            RC_ASSERT(!exact_);
            RC_ASSERT(tracker_.statistics().suspects == 0U);  // all has been armed again
            for (Client& client : clients_) {
                client.everything = true;
            }
        }
    }

    // Slots ---------------------------------------------------------------------------------------

    /// `fails_at` ioctls are made, then it fails.
    void change_slots(const std::vector<SlotChange>& changes, std::size_t fails_at) {
        const PageBits before = all();
        const MemoryMap slots_before = tracker_.memory();
        PageBits marked;
        bool called = false;
        bool gave_up = false;
        stopped_ = true;
        const Result<void> changed = tracker_.change_slots(AllVcpusStopped(), [&](MemoryMap& map) {
            called = true;
            Result<void> done = change(map, changes, fails_at);
            gave_up = !done;
            marked = mark_unchanged(map, slots_before);
            return done;
        });
        stopped_ = false;
        note_everything();
        RC_ASSERT(std::ranges::is_permutation(tracker_.memory().slots(), kernel_.memory().slots()));
        if (!called) {
            RC_ASSERT(!check(changed));
            return;
        }
        RC_ASSERT(changed.has_value() != gave_up);
        const PageBits after = all();
        const MemoryMap slots = tracker_.memory();
        const PageBits moved = where([&](const MemorySlot& slot, auto) {
            return has_moved(slot.slot, slots_before, slots);
        });
        for (Client& client : clients_) {
            client.changed = (client.changed & after) | (after & ~before) | moved;
            client.perhaps &= after;
        }
        uncollected_.reset();
        this->changed(marked);
    }
    /// In guest memory, or in a file.
    static bool has_moved(std::uint32_t slot, const MemoryMap& from, const MemoryMap& to) {
        const SlotByte before{from.find(slot), 0};
        const SlotByte after{to.find(slot), 0};
        return before.place != MemoryMap::npos &&
               (from.guest_address(before) != to.guest_address(after) ||
                from.file_offset(before) != to.file_offset(after));
    }
    Result<void> change(MemoryMap& map, const std::vector<SlotChange>& changes,
                        std::size_t fails_at) {
        for (const SlotChange& change : changes) {
            const std::uint32_t id = slot_ids[change.slot];
            const std::size_t place = map.find(id);
            const bool there = place != MemoryMap::npos;
            MemorySlot wanted;
            if (there) {
                wanted = map.slots()[place];
            } else if (change.kind != SlotChange::Kind::put) {
                continue;
            }
            using Kind = SlotChange::Kind;
            wanted.slot = id;
            if (change.kind == Kind::put || change.kind == Kind::resize) {
                wanted.size = change.pages * page_size;
            }
            if (change.kind == Kind::put || change.kind == Kind::move) {
                wanted.guest_address = addresses[change.address] * page_size;
            }
            if (change.kind == Kind::put || change.kind == Kind::replace) {
                wanted.host = memory_[change.block];
            }
            const bool remove = there && change.kind != Kind::move;
            Result<void> done;
            if (remove) {
                done = fails_at-- == 0 ? give_up() : set({.slot = id}, map);
            }
            if (done && change.kind != Kind::remove) {
                done = fails_at-- == 0 ? give_up() : set(wanted, map);
            }
            if (!done) {
                return done;
            }
        }
        return {};
    }
    static Result<void> give_up() {
        return fail({ECANCELED, "change", "the test wants it so", {}});
    }
    /// Tells the kernel and, where it agrees, the map.
    static Result<void> set(const MemorySlot& slot, MemoryMap& map) {
        Result<void> done =
            kvm::Vm::adopt(fake::Kernel::fd())
                .set_user_memory_region(slot.region(slot.size == 0 ? 0 : KVM_MEM_LOG_DIRTY_PAGES));
        if (done) {
            if (map.find(slot.slot) != MemoryMap::npos) {
                must(map.remove(slot.slot));
            }
            if (slot.size != 0) {
                must(map.add(slot));
            }
        }
        return done;
    }
    /// The host goes on writing, to slots that stay as they are; gives the pages.
    [[nodiscard]] PageBits mark_unchanged(const MemoryMap& map, const MemoryMap& before) {
        PageBits marked;
        for (const MemorySlot& slot : map.slots()) {
            if (std::ranges::find(before.slots(), slot) != before.slots().end()) {
                tracker_.mark(slot.guest_address, 1, slot.slot >> 16);
                marked.set(bit(slot, 0));
            }
        }
        return marked;
    }

    void forget_hooks() {
        kernel_.around_set_region(nullptr);
        kernel_.before_clear(nullptr);
    }
    /// Whether it succeeded; a failure that was not ordered fails the test.
    template <typename T>
    bool check(const Result<T>& result) {
        return succeeded(result, faults_);
    }

    bool exact_;
    faulty::Faults faults_;
    fake::Kernel kernel_;
    std::byte* memory_[blocks] = {};
    Tracker tracker_;
    std::vector<Vcpu> vcpus_;
    std::vector<Client> clients_;
    std::vector<Open> open_;
    std::size_t next_id_ = 0;
    Vcpu* making_room_ = nullptr;
    bool stopped_ = false;
    bool collecting_ = false;
    PageBits meanwhile_;    // written in the collect that is under way
    PageBits uncollected_;  // written since any consumer's last collect
    PageBits suspects_;     // not armed, and no record of a write to them is to be read
    std::uint64_t everything_ = 0;
};

const std::vector<Command::Kind> ordinary = {Command::Kind::collect,
                                             Command::Kind::collect,
                                             Command::Kind::collect_stopped,
                                             Command::Kind::commit,
                                             Command::Kind::commit,
                                             Command::Kind::abort,
                                             Command::Kind::drop,
                                             Command::Kind::add_consumer,
                                             Command::Kind::remove_consumer,
                                             Command::Kind::drain,
                                             Command::Kind::write,
                                             Command::Kind::write,
                                             Command::Kind::write,
                                             Command::Kind::write_until_full,
                                             Command::Kind::write_during_reset,
                                             Command::Kind::mark,
                                             Command::Kind::mark_bitmap,
                                             Command::Kind::write_during_clear,
                                             Command::Kind::change_slots,
                                             Command::Kind::add_vcpu,
                                             Command::Kind::remove_vcpu,
                                             Command::Kind::look_every};

std::vector<Command::Kind> all_kinds() {
    std::vector<Command::Kind> all = ordinary;
    all.insert(all.end(), {Command::Kind::write_during_rearm, Command::Kind::kill,
                           Command::Kind::kill, Command::Kind::fail, Command::Kind::fail});
    return all;
}

fake::Log arbitrary_log() {
    return *rc::gen::element(fake::Log::rings, fake::Log::rings, fake::Log::bitmap,
                             fake::Log::manual_bitmap);
}
std::uint32_t arbitrary_first_index() {
    return *rc::gen::element(std::uint32_t{0}, 0U - entries, 0U - 4 * entries);
}

// A kernel that keeps its rules: each consumer is told each written page exactly once.
RC_GTEST_PROP(TrackerModel, TellsEachConsumerEachPageOnce, ()) {
    const auto commands =
        *rc::gen::container<std::vector<Command>>(arbitrary_command(ordinary, reserved));
    World world(arbitrary_log(), arbitrary_first_index(), true);
    for (const Command& command : commands) {
        world.act(command);
    }
    world.collect_and_commit(false);
    world.collect_and_commit(true);
}

// Pages that are left writable are in each epoch, and nothing is missed by anyone: not when slots
// go, when rings run over, or when calls fail. Without them all is exact again.
RC_GTEST_PROP(TrackerModel, MissesNothingWithHotPages, ()) {
    const auto commands =
        *rc::gen::container<std::vector<Command>>(arbitrary_command(all_kinds(), 6 * entries));
    const fake::Log log = arbitrary_log();
    World world(log, arbitrary_first_index(), false, *rc::gen::element(3U, 10000U));
    if (log != fake::Log::bitmap) {
        world.heat();
    }
    for (const Command& command : commands) {
        world.act(command);
    }
    world.calm();
    world.write_all();
}

// One that runs rings over, and calls that are interrupted or fail: no write is missed by anyone,
// no vCPU hangs, and afterwards all is exact again.
RC_GTEST_PROP(TrackerModel, MissesNothingWhateverHappensAndIsExactAgainAfterwards, ()) {
    const auto commands =
        *rc::gen::container<std::vector<Command>>(arbitrary_command(all_kinds(), 6 * entries));
    World world(arbitrary_log(), arbitrary_first_index(), false);
    for (const Command& command : commands) {
        world.act(command);
    }
    world.calm();
    world.write_all();
}

}  // namespace
}  // namespace dirtyring::model
