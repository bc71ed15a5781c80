// SPDX-License-Identifier: MIT
//
// What a run tells: first a Header, then one Interval after the other, in the end an Outcome. A
// live run makes them (MachineTracking) and a trace keeps them (trace_writer.hpp,
// trace_reader.hpp), so that `dirtyring report` shows what `dirtyring run` did. What a live run
// tells beyond them, Live, is shown apart from the rest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dirtyring/statistics.hpp"

namespace dirtyring::cli {

enum class Track : std::uint8_t { ring, bitmap, manual };

/// "ring", "bitmap", "manual": as --track has it.
[[nodiscard]] constexpr std::string_view name(Track track) noexcept {
    switch (track) {
        case Track::ring:
            return "ring";
        case Track::bitmap:
            return "bitmap";
        case Track::manual:
            return "manual";
    }
    return "unknown";
}

/// A memory slot of the guest. Pages are numbered through all slots, in their order.
struct Slot {
    std::uint64_t guest_address = 0;  ///< guest-physical, bytes
    std::uint64_t pages = 0;
};

struct Header {
    std::string guest;  ///< its name or path
    Track track = Track::ring;
    std::uint32_t ring_entries = 0;  ///< of each vCPU's ring; 0 unless track is ring
    std::uint32_t vcpus = 0;
    std::uint64_t interval_ns = 0;  ///< as asked for; each Interval has its true length
    std::vector<Slot> slots;
    std::vector<std::pair<std::string, std::string>> params;

    [[nodiscard]] std::uint64_t pages() const noexcept {
        std::uint64_t sum = 0;
        for (const Slot& slot : slots) {
            sum += slot.pages;
        }
        return sum;
    }
};

/// What one vCPU did in an interval. What its ring tells is 0 where there is none.
struct VcpuFigures {
    std::uint64_t entries = 0;   ///< read from its ring
    std::uint64_t distinct = 0;  ///< of these, first of their page in the interval, over all rings
    std::uint64_t full_exits = 0;   ///< KVM_EXIT_DIRTY_RING_FULL
    std::uint64_t overruns = 0;     ///< times that entries were or may have been lost
    std::uint64_t lost = 0;         ///< entries known to be lost
    std::uint64_t peak_fill = 0;    ///< most entries found in its ring at once, since the start
    std::uint64_t rounds = 0;       ///< that the guest finished
    std::uint64_t page_writes = 0;  ///< in them, by the guest's own count
};

/// Neighbouring dirty pages.
struct Span {
    std::uint64_t first = 0;
    std::uint64_t count = 0;  ///< not 0
};

struct Interval {
    std::uint64_t begin_ns = 0;  ///< since the guest's start; where the interval before ended
    std::uint64_t end_ns = 0;    ///< after begin_ns
    /// The kernel lost entries: every page may be dirty. `spans` is empty then.
    bool everything = false;
    std::uint64_t harvest_ns = 0;  ///< spent reading rings; with a bitmap all that the collect took
    std::uint64_t reset_ns = 0;    ///< spent in KVM_RESET_DIRTY_RINGS; with a bitmap 0
    std::vector<VcpuFigures> vcpus;
    std::vector<Span> spans;  ///< by page, without overlap

    [[nodiscard]] std::uint64_t pages() const noexcept {
        std::uint64_t sum = 0;
        for (const Span& span : spans) {
            sum += span.count;
        }
        return sum;
    }
    [[nodiscard]] std::uint64_t length_ns() const noexcept { return end_ns - begin_ns; }
};

enum class Ending : std::uint8_t {
    succeeded,  ///< every vCPU ended with status 0
    stopped,    ///< the guest was stopped from outside
    failed
};

struct Outcome {
    Ending ending = Ending::stopped;
    std::string reason;              ///< of stopped and failed: "by SIGINT"; how a vCPU failed
    std::vector<std::string> vcpus;  ///< machine::describe of each
    std::string console;             ///< what the guest wrote
};

/// What no trace keeps.
struct Live {
    std::uint64_t limit = 0;  ///< bytes a second that each vCPU may dirty; 0: as many as it likes
    Statistics statistics;    ///< of the run until now
};

}  // namespace dirtyring::cli
