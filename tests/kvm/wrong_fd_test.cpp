// SPDX-License-Identifier: MIT
//
// Every call on a descriptor that it is not for.
#include <fcntl.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "every_call.hpp"
#include "kvm_fixture.hpp"

namespace dirtyring {
namespace {

TEST(WrongFd, NoDescriptorIsEbadfWithTheNameOfTheCall) {
    for (const LibraryCall& call : every_call()) {
        SCOPED_TRACE(call.operation);
        const std::optional<Error> error = call.make(kvm::Fd::borrow(-1));
        ASSERT_TRUE(error);
        EXPECT_EQ(error->code, EBADF) << error->message();
        EXPECT_EQ(error->operation.find(call.operation), 0U) << error->message();
        EXPECT_NE(error->message().find("Bad file descriptor"), std::string::npos);
    }
}

void expect_errors(const kvm::Fd& fd) {
    ASSERT_GE(fd.get(), 0);
    for (const LibraryCall& call : every_call()) {
        SCOPED_TRACE(call.operation);
        const std::optional<Error> error = call.make(fd.ref());
        ASSERT_TRUE(error);
        EXPECT_NE(error->code, 0) << error->message();
        EXPECT_FALSE(error->message().empty());
    }
}

TEST(WrongFd, AnotherDevice) {
    expect_errors(kvm::Fd::own(open("/dev/null", O_RDWR | O_CLOEXEC)));
}

TEST(WrongFd, AnEventfd) {
    expect_errors(kvm::Fd::own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
}

using WrongKvmFd = KvmTest;

/// Which calls of the other kinds this KVM descriptor takes all the same.
void expect_errors_but(const kvm::Fd& fd, DescriptorKind kind,
                       std::initializer_list<std::string> shared) {
    for (const LibraryCall& call : every_call()) {
        if (call.kind == kind || std::ranges::find(shared, call.operation) != shared.end()) {
            continue;
        }
        SCOPED_TRACE(call.operation);
        const std::optional<Error> error = call.make(fd.ref());
        ASSERT_TRUE(error);
        EXPECT_NE(error->code, 0) << error->message();
    }
}

TEST_F(WrongKvmFd, TheSystems) {
    expect_errors_but(system().fd(), DescriptorKind::system,
                      {"KVM_CHECK_EXTENSION", "KVM_GET_MSRS", "KVM_HAS_DEVICE_ATTR"});
}

TEST_F(WrongKvmFd, AVcpus) {
    kvm::Vm vm = must(system().create_vm());
    const kvm::Vcpu vcpu = must(vm.create_vcpu(0));
    expect_errors_but(vcpu.fd(), DescriptorKind::vcpu,
                      {"KVM_GET_MSRS", "KVM_GET_STATS_FD", "KVM_GET_TSC_KHZ", "KVM_SET_TSC_KHZ",
                       "KVM_HAS_DEVICE_ATTR"});
}

}  // namespace
}  // namespace dirtyring
