#include "faults.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "block.h"
#include "memory.h"
#include "reports.h"

namespace emulated {
namespace {

constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
constexpr int kTimer = SIGPROF;
constexpr unsigned long kFirstPage = 4096;
struct sigaction previous[sizeof kFaults / sizeof *kFaults];

std::string access(const ucontext_t& context) {
    constexpr long kWrite = 2;  // a bit of the processor's page-fault code
    return context.uc_mcontext.gregs[REG_ERR] & kWrite ? "write " : "read ";
}

std::string words(const void* address, const ucontext_t& context, const char** kind) {
    *kind = "out_of_bounds";
    std::string what = describe_local(address, kind);
    if (what.empty()) what = describe(address);
    if (!what.empty()) return (*kind == std::string("out_of_bounds") ? access(context) : "") + what;
    if (reinterpret_cast<unsigned long>(address) < kFirstPage)
        return access(context) + "through a null pointer";
    char text[64];
    std::snprintf(text, sizeof text, "at %p, which is no device memory", address);
    return access(context) + text;
}

const void* instruction(const void* context) {
    const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
    return reinterpret_cast<const void*>(registers[REG_RIP]);
}

void on_fault(int signal, siginfo_t* info, void* raw) {
    const auto& context = *static_cast<ucontext_t*>(raw);
    if (!in_kernel()) {  // the candidate's host code, or ours: die of it as usual
        ::signal(signal, SIG_DFL);
        return;
    }
    const Where where{.address = instruction(raw)};
    int error = kIllegalAddress;
    if (signal == SIGFPE) {
        report("division_by_zero", "an integer division by zero", where);
        error = kLaunchFailure;
    } else if (signal == SIGILL) {
        report("trap", "an instruction that ends the program", where);
        error = kLaunchFailure;
    } else if (info->si_code == SI_KERNEL) {  // the processor names no address
        report("misaligned", "a vector access at an address that is not a multiple of its size",
               where);
        error = kMisaligned;
    } else {
        const char* kind;
        const std::string text = words(info->si_addr, context, &kind);
        report(kind, text, where);
    }
    set_sticky_error(error);
    end_kernel();
}

void on_timer(int, siginfo_t*, void* context) { tick(instruction(context)); }

timer_t thread_timer() {
    thread_local timer_t timer = [] {
        sigevent event{};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = kTimer;
        event._sigev_un._tid = static_cast<int>(syscall(SYS_gettid));
        timer_t made{};
        timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &made);
        return made;
    }();
    return timer;
}

void set_timer(double seconds) {
    itimerspec spec{};
    spec.it_interval.tv_nsec = spec.it_value.tv_nsec = static_cast<long>(seconds * 1e9);
    timer_settime(thread_timer(), 0, &spec, nullptr);
}

}  // namespace

Watch::Watch() {
    thread_local char handler_stack[64 << 10];  // a fiber that overflows has no room for a handler
    stack_t stack{};
    stack.ss_sp = handler_stack;
    stack.ss_size = sizeof handler_stack;
    sigaltstack(&stack, nullptr);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (size_t i = 0; i < sizeof kFaults / sizeof *kFaults; i++)
        sigaction(kFaults[i], &action, &previous[i]);
    // The timer's handler stays on the fiber's own stack: it may be set aside together with it.
    action.sa_sigaction = on_timer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    sigaction(kTimer, &action, nullptr);
    set_timer(kTickSeconds);
}

Watch::~Watch() {
    set_timer(0);
    for (size_t i = 0; i < sizeof kFaults / sizeof *kFaults; i++)
        sigaction(kFaults[i], &previous[i], nullptr);
}

}  // namespace emulated
