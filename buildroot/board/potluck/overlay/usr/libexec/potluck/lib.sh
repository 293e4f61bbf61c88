# What the board's scripts share. Sourced.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

# The settings that people edit, on the card's FAT partition; and those that hold where there are none.
CONFIG=/boot/potluck.toml
DEMO_MODEL=/usr/share/potluck/demo.gguf
RUN=/run/potluck

# say TEXT, warn TEXT: into the kernel's log, which ramoops keeps over a crash. The console shows warnings only.
say() { echo "<6>potluck: $*" >/dev/kmsg; }
warn() { echo "<3>potluck: $*" >/dev/kmsg; }

# setting SECTION.KEY: its value as it counts; nothing where there is none or the file cannot be read. What is wrong with the file
# is told on the console by potluck itself, once.
setting() { potluck config get "$1" "$CONFIG" 2>/dev/null; }

# word NAME: the value of NAME=... on the kernel's command line.
word() {
    for item in $(cat /proc/cmdline); do
        case $item in "$1="*) echo "${item#*=}" ;; esac
    done
}

# The board's serial number, from its device tree; a machine that has none goes by its name.
board_serial() {
    if [ -r /proc/device-tree/serial-number ]; then tr -d '\0' </proc/device-tree/serial-number; else hostname; fi
}

# The name that the board goes by on the network: as set, else potluck and the end of its serial number, so that two boards out of
# one box differ. A machine that has none goes by the first MAC address; a radio's may come too late for that.
board_name() {
    name=$(setting node.name)
    if [ -z "$name" ] && [ -r /proc/device-tree/serial-number ]; then
        name=potluck-$(tr -d '\0' </proc/device-tree/serial-number | tail -c 6)
    elif [ -z "$name" ]; then
        for card in /sys/class/net/wlan0 /sys/class/net/e*; do
            [ -r "$card/address" ] && name=potluck-$(tr -d : <"$card/address" | cut -c 7-12) && break
        done
    fi
    echo "${name:-potluck}"
}

# multicast_by CARD: the catalog's multicast can leave by this card, also while it has no other route.
multicast_by() { ip route add 224.0.0.0/4 dev "$1" metric "$(metric "$1")" 2>/dev/null; }

# metric CARD: of several cards the one with the least is taken, a wire before the radio.
metric() {
    case $1 in
        wlan*) echo 600 ;;
        *) echo $((100 + $(cat "/sys/class/net/$1/ifindex"))) ;;
    esac
}

# The status light, where the board has one: starting (slow), ready (steady), trouble (fast).
light() {
    for led in /sys/class/leds/*ACT* /sys/class/leds/*act* /sys/class/leds/led0; do
        [ -w "$led/trigger" ] || continue
        case $1 in
            starting) echo timer >"$led/trigger" && echo 500 >"$led/delay_on" && echo 500 >"$led/delay_off" ;;
            ready) echo default-on >"$led/trigger" ;;
            trouble) echo timer >"$led/trigger" && echo 100 >"$led/delay_on" && echo 100 >"$led/delay_off" ;;
        esac 2>/dev/null
        return 0
    done
}

# Answers to NAME.local on the network, where the image has a responder.
name_on_network() {
    [ -x /usr/sbin/mdnsd ] || return 0
    pidof mdnsd >/dev/null || mdnsd /run/mdns.d 2>/dev/null
}
