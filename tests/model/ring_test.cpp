// SPDX-License-Identifier: MIT
//
// Ring against a queue: what the kernel logs comes out once each, in order, and goes back to it.
#include "dirtyring/ring.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <deque>
#include <ostream>
#include <vector>

#include "dirtyring/harvest.hpp"
#include "fake_kernel.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

struct Command {
    enum class Kind { push, peek, release, take, reset };
    Kind kind;
    std::uint32_t count;
};

void showValue(const Command& command, std::ostream& out) {
    switch (command.kind) {
        case Command::Kind::push:
            out << "the kernel pushes " << command.count;
            return;
        case Command::Kind::peek:
            out << "peek(" << command.count << ")";
            return;
        case Command::Kind::release:
            out << "release " << command.count << " of what is to be seen";
            return;
        case Command::Kind::take:
            out << "take";
            return;
        case Command::Kind::reset:
            out << "reset";
            return;
    }
}

RC_GTEST_PROP(RingModel, IsAQueueFromTheKernelAndBack, ()) {
    using rc::gen::element;
    using rc::gen::inRange;
    const auto size = std::uint32_t{1} << *inRange(0, 6);
    const auto commands = *rc::gen::container<std::vector<Command>>(rc::gen::build<Command>(
        rc::gen::set(&Command::kind,
                     element(Command::Kind::push, Command::Kind::peek, Command::Kind::release,
                             Command::Kind::take, Command::Kind::reset)),
        rc::gen::set(&Command::count,
                     rc::gen::resize(rc::kNominalSize, inRange<std::uint32_t>(0, 2 * size)))));
    const std::uint32_t first_index = *element(std::uint32_t{0}, 0U - size, 0U - 2 * size);

    fake::Kernel kernel({.entries = size, .reserved = 0, .first_index = first_index});
    faulty::Faults faults;
    kernel.answer(faults);
    Ring ring = must(Ring::over(kernel.ring(0)));
    const ResetHandle handle(fake::Kernel::fd());
    Harvest harvest(kernel.memory());

    std::deque<std::uint64_t> logged;  // and not yet released
    std::uint32_t released = 0;        // and not yet reset
    std::uint64_t next = 0;
    for (const Command& command : commands) {
        switch (command.kind) {
            case Command::Kind::push:
                for (std::uint32_t i = 0; i < command.count; ++i) {
                    if (logged.size() + released < size) {
                        logged.push_back(next);
                        kernel.push(0, 0, next++);
                    }
                }
                break;
            case Command::Kind::peek: {
                const Ring::Batch batch = ring.peek(command.count);
                RC_ASSERT(batch.size() == std::min<std::size_t>(command.count, logged.size()));
                for (std::uint32_t i = 0; i < batch.size(); ++i) {
                    RC_ASSERT(batch[i].offset == logged[i]);
                }
                break;
            }
            case Command::Kind::release: {
                const std::uint32_t count = std::min(command.count, ring.peek().size());
                ring.release(count);
                released += count;
                logged.erase(logged.begin(), logged.begin() + count);
                break;
            }
            case Command::Kind::take: {
                const std::uint32_t taken = harvest.take(ring);
                RC_ASSERT(taken == logged.size());
                released += taken;
                logged.clear();
                break;
            }
            case Command::Kind::reset:
                RC_ASSERT(must(handle.reset_once()) == released);
                released = 0;
                break;
        }
        RC_ASSERT(!ring.out_of_step());
        RC_ASSERT(kernel.dirty_index(0) - kernel.reset_index(0) == logged.size() + released);
    }
}

}  // namespace
}  // namespace dirtyring
