# Functions for the board's scripts, which source this file.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

# The settings that people edit, on the card's FAT partition; and the model for a card without one.
CONFIG=/boot/potluck.toml
DEMO_MODEL=/usr/share/potluck/demo.gguf
RUN=/run/potluck

# say TEXT, warn TEXT: write to the kernel's log, which ramoops keeps over a crash. The console
# shows only warnings.
say() { echo "<6>potluck: $*" >/dev/kmsg; }
warn() { echo "<3>potluck: $*" >/dev/kmsg; }

# setting SECTION.KEY: its effective value; nothing if it has none or the file cannot be read.
# potluck itself reports the file's problems on the console, once.
setting() { potluck config get "$1" "$CONFIG" 2>/dev/null; }

# word NAME: the value of NAME=... on the kernel's command line.
word() {
    for item in $(cat /proc/cmdline); do
        case $item in "$1="*) echo "${item#*=}" ;; esac
    done
}

# The board's serial number, from its device tree; on a machine without one, its host name.
board_serial() {
    if [ -r /proc/device-tree/serial-number ]; then tr -d '\0' </proc/device-tree/serial-number; else hostname; fi
}

# The board's name on the network: the one in the settings, else potluck and the end of its serial
# number, so that two new boards differ. A machine without a serial number uses its first MAC
# address; the radio's may appear too late for that.
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

# multicast_by CARD: routes the catalog's multicast through this card, even if it has no other
# route.
multicast_by() { ip route add 224.0.0.0/4 dev "$1" metric "$(metric "$1")" 2>/dev/null; }

# metric CARD: the card with the lowest metric is used, Ethernet before the radio.
metric() {
    case $1 in
        wlan*) echo 600 ;;
        *) echo $((100 + $(cat "/sys/class/net/$1/ifindex"))) ;;
    esac
}

# Sets the status LED, if the board has one: starting (slow), ready (steady), trouble (fast).
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

# Answers to NAME.local on the network, if the image has a responder.
name_on_network() {
    [ -x /usr/sbin/mdnsd ] || return 0
    pidof mdnsd >/dev/null || mdnsd /run/mdns.d 2>/dev/null
}
