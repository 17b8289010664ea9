#!/bin/sh
# restore.sh: get every paper back, under its own name, without Nightsafe.
#
# Needs restic (0.14 or newer), age (1.1 or newer) and the tools of any POSIX system: sh, find, sed, mkdir, mv, cp, rm, touch, wc.
#
#   usage: sh restore.sh [-s SNAPSHOT] [-a] [-k] RECOVERY_IDENTITY TARGET [CLIENT...]
#
#   RECOVERY_IDENTITY  a file that has the line AGE-SECRET-KEY-1... of part A of the recovery kit
#   TARGET             folder for the papers in the clear; it must be empty, or not exist yet
#   CLIENT...          only these clients (default: all)
#   -s SNAPSHOT        snapshot of the papers' repository (default: the newest); keys are always taken from the newest
#   -a                 also the papers that no name points to (earlier versions, deleted names), as TARGET/CLIENT/unnamed/ID
#   -k                 keep the sealed copies in TARGET/.scratch at the end
#
# The environment says where the backups are (part B of the recovery kit has the values):
#   NIGHTSAFE_PAPERS   restic repository of the papers, such as s3:https://s3.example.com/bucket/papers
#   NIGHTSAFE_KEYS     restic repository of the keys
#   RESTIC_PASSWORD or RESTIC_PASSWORD_FILE        the kit's password; it opens both
#   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY       the read-only S3 credential (not needed for a local folder)
#   NIGHTSAFE_NEWEST   when the newest backup was made that the page knows of, such as 2026-01-31T02:00Z (may be missing)
#
# It writes TARGET/CLIENT/inbox, outbox and receipts as the client saw them. Papers that were held in quarantine go to
# TARGET/CLIENT/quarantine: they may be harmful. A paper that is sealed to a key of which only its client has the secret half stays sealed: it
# becomes NAME.age, and is listed. The sealed copies lie in TARGET/.scratch meanwhile: there must be room for everything twice.
#
# An old snapshot may pass for new, by a fault or by somebody's will. The one that is taken without -s is compared with the time of the catalog in
# it, and with NIGHTSAFE_NEWEST; where that does not fit, there is a WARNING, and the exit code is 3.
#
# Exit codes: 0 every paper came back, those that stay sealed included; 1 nothing could be restored; 2 wrong use; 3 some papers are missing or
# damaged (each is named), or the snapshot is doubtful.

set -u
LC_ALL=C # names are bytes
export LC_ALL
umask 077

say() { printf '%s\n' "restore.sh: $*" >&2; }
die() {
    code=$1
    shift
    say "$@"
    exit "$code"
}
shown() { printf '%s\n' "$1" | sed -e ':a' -e '$!N' -e '$!ba' -e 's/[[:cntrl:]]/?/g'; } # a name as one line that steers no terminal

# note KIND [NAME WHY]: count one of KIND, and complain. Counts are lines in files, because they are made by several processes.
note() {
    echo >> "$SCRATCH/count.$1"
    [ $# -eq 1 ] || say "$(shown "$2"): $3"
}
count() { if [ -f "$SCRATCH/count.$1" ]; then echo $(($(wc -l < "$SCRATCH/count.$1"))); else echo 0; fi; }
counted() { if [ "$(count "$1")" -eq 1 ]; then echo "1 $2"; else echo "$(count "$1") $3"; fi; }

# Secret keys are only ever in a variable of this shell or a pipe: in no file, argument or environment.
recovery_keys() { sed -n 's/^[[:space:]]*\(AGE-SECRET-KEY-1[A-Z0-9]*\).*/\1/p' "$IDENTITY"; }
client_keys() {
    for sealed in "$SCRATCH/keys/keys/clients/$CLIENT"/*.age; do
        [ -f "$sealed" ] || continue
        recovery_keys | age -d -i - "$sealed" || say "$CLIENT: the key ${sealed##*/} does not open with this recovery identity"
    done
}

# hand_over SEALED OUTPUT LIKE: when the client has a key whose identity never came to this installation, and no key here fits the paper, then
# that is no damage: the sealed file itself is all there is. It becomes OUTPUT.age.
hand_over() {
    [ -n "$(find "$SCRATCH/keys/keys/clients/$CLIENT" -name '*.external' 2> /dev/null)" ] || return 1
    case $(printf '%s\n' "$KEYS" | { age -d -i - "$1" 2>&1 > /dev/null; } 2>&1) in
    *"no identity matched"*) ;;
    *) return 1 ;;
    esac
    [ ! -e "$2.age" ] && cp "$1" "$2.age" && touch -r "$3" "$2.age" || return 1
    note sealed "${2#"$TARGET"/}.age" "sealed to a key that only the client holds: it was not opened"
}

# unseal SEALED OUTPUT LIKE: decrypt, first under a hidden name, so that OUTPUT is whole or not there; with the times of LIKE.
unseal() {
    rm -f "$PARTIAL"
    printf '%s\n' "$KEYS" | age -d -i - "$1" > "$PARTIAL" && touch -r "$3" "$PARTIAL" && mv "$PARTIAL" "$2"
}

# One name: a small file {"nightsafe":1,"paper":ID,"size":BYTES,"state":...} in the jail.
restore_paper() {
    name=${1#"$JAIL"/}
    text=$(sed -n '1p' "$1")
    id=$(printf '%s\n' "$text" | sed -n 's/^{.*"paper" *: *"\([0-9a-f]\{32\}\)".*/\1/p')
    size=$(printf '%s\n' "$text" | sed -n 's/^{.*"size" *: *\([0-9]\{1,18\}\) *[,}].*/\1/p')
    if [ -z "$id" ] || [ -z "$size" ]; then
        note damaged "$CLIENT/$name" "the name does not point to a paper"
        return
    fi
    shard=${id#??????????????????????????????}
    sealed=$SCRATCH/papers/vault/$CLIENT/$shard/$id.age
    output=$TARGET/$CLIENT/$name
    kind=restored
    if [ ! -f "$sealed" ]; then
        sealed=$SCRATCH/papers/quarantine/$CLIENT/$shard/$id.age
        output=$TARGET/$CLIENT/quarantine/$name
        kind=quarantined
    fi
    if [ ! -f "$sealed" ]; then
        case $text in
        *partial*) note missing "$CLIENT/$name" "not in the backup: it was still being uploaded" ;;
        *) note missing "$CLIENT/$name" "not in the backup: it was not sealed yet when the backup ran" ;;
        esac
        return
    fi
    : > "$SCRATCH/named/$id"
    folder=${output%/*}
    [ -d "$folder" ] || mkdir -p "$folder"
    if ! unseal "$sealed" "$output" "$1"; then
        if hand_over "$sealed" "$output" "$1"; then return; fi
        note damaged "$CLIENT/$name" "it does not decrypt, or cannot be written"
    elif [ $(($(wc -c < "$output"))) -ne "$size" ]; then
        note damaged "$CLIENT/$name" "it does not have the size that its name tells"
    else
        note "$kind"
    fi
}

restore_unnamed() {
    id=${1##*/}
    id=${id%.age}
    [ ! -f "$SCRATCH/named/$id" ] || return 0
    [ -d "$TARGET/$CLIENT/unnamed" ] || mkdir "$TARGET/$CLIENT/unnamed"
    if unseal "$1" "$TARGET/$CLIENT/unnamed/$id" "$1"; then note unnamed; elif hand_over "$1" "$TARGET/$CLIENT/unnamed/$id" "$1"; then :; else note damaged "$CLIENT/unnamed/$id" "it does not decrypt, or cannot be written"; fi
}

copy_plain() { if cp -p "$1" "$TARGET/$CLIENT/${1#"$JAIL"/}"; then note receipts; else note damaged "$CLIENT/${1#"$JAIL"/}" "it cannot be written"; fi; }

make_folder() { mkdir -p "$TARGET/$CLIENT/${1#"$JAIL"/}" || note damaged "$CLIENT/${1#"$JAIL"/}" "the folder cannot be made"; }

# each TASK FIND_ARGUMENT...: do TASK for what find finds. find calls this script again and hands the names over as arguments: the one way
# that any name survives.
each() {
    task=$1
    shift
    [ -d "$1" ] || return 0
    find "$@" -exec sh "$SELF" "--each-$task" {} + || note damaged "$CLIENT" "not all of ${1#"$SCRATCH/papers/"} could be walked through"
}

case ${1-} in
--each-*)
    task=${1#--each-}
    shift
    unset KEYS # a variable of that name in the environment would hand the keys on to every program
    KEYS=
    case $task in
    paper | unnamed) KEYS=$(client_keys) ;;
    esac
    for path do
        case $task in
        paper) restore_paper "$path" ;;
        unnamed) restore_unnamed "$path" ;;
        plain) copy_plain "$path" ;;
        folder) make_folder "$path" ;;
        esac
    done
    exit 0
    ;;
esac

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

snapshot=latest all= keep=
while getopts s:ak option; do
    case $option in
    s) snapshot=$OPTARG ;;
    a) all=1 ;;
    k) keep=1 ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ -f "$0" ] || die 2 "save this script as a file and run that: sh restore.sh ..."
[ $# -ge 2 ] || usage

case $0 in /*) SELF=$0 ;; *) SELF=$PWD/$0 ;; esac
case $1 in /*) IDENTITY=$1 ;; *) IDENTITY=$PWD/$1 ;; esac
case $2 in /*) TARGET=$2 ;; *) TARGET=$PWD/$2 ;; esac
shift 2

for tool in restic age sh find sed mkdir mv cp rm touch wc; do
    command -v "$tool" > /dev/null || die 2 "the program '$tool' is missing; install it and try again"
done
[ -n "${NIGHTSAFE_PAPERS-}" ] && [ -n "${NIGHTSAFE_KEYS-}" ] || die 2 "set NIGHTSAFE_PAPERS and NIGHTSAFE_KEYS as in part B of the recovery kit"
[ -n "${RESTIC_PASSWORD-}${RESTIC_PASSWORD_FILE-}" ] || die 2 "set RESTIC_PASSWORD or RESTIC_PASSWORD_FILE as in part B of the recovery kit"
[ -f "$IDENTITY" ] && [ -n "$(recovery_keys)" ] || die 2 "there is no line AGE-SECRET-KEY-1... in the file $IDENTITY"
for client do
    case $client in
    *[!a-z0-9._-]* | [._-]* | '') die 2 "not the name of a client: $(shown "$client")" ;;
    esac
done
mkdir -p "$TARGET" || die 2 "the target cannot be made: $TARGET"
[ -z "$(find "$TARGET/." ! -name . | sed 1q)" ] || die 2 "the target is not empty: $TARGET"

SCRATCH=$TARGET/.scratch # no client's name begins with a dot
PARTIAL=$TARGET/.partial
export SELF IDENTITY TARGET SCRATCH PARTIAL
clean() {
    rm -f "$PARTIAL"
    [ -n "$keep" ] || rm -rf "$SCRATCH"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$SCRATCH/named" || die 1 "the target cannot be written"

# fetch REPOSITORY SNAPSHOT WHERE PATH...: the sealed copies of PATH...; without a lock, which a read-only credential could not write.
fetch() {
    repository=$1 which=$2 where=$3
    shift 3
    for path do
        shift
        set -- "$@" --include "$path"
    done
    restic -r "$repository" --no-lock --cache-dir "$SCRATCH/cache" restore "$which" --target "$SCRATCH/$where" "$@" >&2 && return
    note damaged "restic" "not everything came out of $repository, see above; going on with what is there"
}

# minutes TIME: a time as in 2026-01-31T09:00+01:00 as minutes in UTC, since a day long ago.
minutes() {
    year=${1%%-*} rest=${1#*-}
    month=${rest%%-*} rest=${rest#*-}
    day=${rest%%T*} rest=${rest#*T}
    hour=${rest%%:*} rest=${rest#*:}
    zone=${rest#??}
    minute=${rest%"$zone"}
    case $zone in
    [+-]??:??)
        ahead=${zone#?}
        before=${ahead%:*} after=${ahead#*:}
        ahead=${zone%"$ahead"}$((${before#0} * 60 + ${after#0}))
        ;;
    *) ahead=0 ;;
    esac
    month=${month#0} day=${day#0} hour=${hour#0} minute=${minute#0}
    early=$(((14 - month) / 12)) # the years of this reckoning begin in March
    year=$((year + 4800 - early)) month=$((month + 12 * early - 3))
    days=$((day + (153 * month + 2) / 5 + 365 * year + year / 4 - year / 100 + year / 400))
    echo $((days * 1440 + hour * 60 + minute - ahead))
}
# time_of KEY: the first time that JSON lines have under KEY, to the minute, with its zone.
time_of() { sed -n "s/.*\"$1\":\"\([12][0-9]\{3\}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]\)[0-9:.]*\([-+Z][0-9:]*\)\".*/\1\2/p" | sed 1q; }
doubt() {
    say "WARNING: $*"
    say "WARNING: newer papers may be lacking. Look: restic -r \"\$NIGHTSAFE_PAPERS\" --no-lock snapshots; take another one with -s ID"
    : > "$SCRATCH/doubtful"
}
# Whether the newest snapshot is of the time that it says, and no older than what the page knows. Its catalog was made when the backup began.
look_at_age() {
    listed=$(restic -r "$NIGHTSAFE_PAPERS" --no-lock --cache-dir "$SCRATCH/cache" ls --json latest /dump 2> /dev/null) || return 0 # fetch tells
    taken=$(printf '%s\n' "$listed" | sed -n '/"struct_type":"snapshot"/p' | time_of time)
    dumped=$(printf '%s\n' "$listed" | sed -n '/"path":"\/dump\/catalog/p' | time_of mtime)
    [ -n "$taken" ] && [ -n "$dumped" ] || return 0
    if [ $(($(minutes "$taken") - $(minutes "$dumped"))) -gt 360 ]; then
        doubt "the newest snapshot says that it is of $taken, but the catalog in it is of $dumped: an old one may pass for new"
        return 0
    fi
    known=$(printf '"known":"%s"\n' "${NIGHTSAFE_NEWEST-}" | time_of known)
    [ -n "$known" ] && [ "$(minutes "$dumped")" -lt "$(minutes "$known")" ] || return 0
    doubt "the newest snapshot is of $taken, but when the page was printed there was one of $known: newer ones are gone"
}

[ "$snapshot" != latest ] || look_at_age
say "fetching the sealed keys"
fetch "$NIGHTSAFE_KEYS" latest keys /keys/clients
say "fetching the sealed papers"
if [ $# -eq 0 ]; then
    fetch "$NIGHTSAFE_PAPERS" "$snapshot" papers /jails /vault /quarantine
else
    wanted=
    for client do wanted="$wanted /jails/$client /vault/$client /quarantine/$client"; done
    # shellcheck disable=SC2086 # clients' names hold no spaces
    fetch "$NIGHTSAFE_PAPERS" "$snapshot" papers $wanted
fi
unset RESTIC_PASSWORD RESTIC_PASSWORD_FILE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
rm -rf "$SCRATCH/cache"
[ -d "$SCRATCH/papers/jails" ] || die 1 "no papers were found in that snapshot: nothing was restored"

if [ $# -eq 0 ]; then
    for jail in "$SCRATCH/papers/jails"/*; do
        [ ! -d "$jail" ] || set -- "$@" "${jail##*/}"
    done
fi

for CLIENT do
    JAIL=$SCRATCH/papers/jails/$CLIENT
    export CLIENT JAIL
    if [ ! -d "$JAIL" ]; then
        note missing "$CLIENT" "there is no such client in that snapshot"
        continue
    fi
    say "$CLIENT: opening the papers"
    mkdir "$TARGET/$CLIENT"
    for folder in inbox outbox receipts; do
        each folder "$JAIL/$folder" -type d
    done
    each paper "$JAIL/inbox" -type f
    each paper "$JAIL/outbox" -type f
    each plain "$JAIL/receipts" -type f
    [ -z "$all" ] || each unnamed "$SCRATCH/papers/vault/$CLIENT" -type f -name '*.age'
done

say "$(counted restored paper papers) restored, $(count missing) not in the backup, $(count damaged) damaged or failed"
[ "$(count sealed)" -eq 0 ] || say "$(counted sealed "paper is" "papers are") sealed to keys that only clients hold: saved as received, as NAME.age"
say "besides: $(counted receipts "file of receipts" "files of receipts"), $(counted quarantined paper papers) from quarantine, $(counted unnamed paper papers) without a name"
[ ! -e "$SCRATCH/doubtful" ] || say "WARNING: this may not be the newest state, see above"
[ "$(count missing)" -eq 0 ] && [ "$(count damaged)" -eq 0 ] && [ ! -e "$SCRATCH/doubtful" ] || exit 3
if [ "$(count restored)" -eq 0 ] && [ "$(count quarantined)" -eq 0 ] && [ "$(count unnamed)" -eq 0 ] && [ "$(count sealed)" -eq 0 ]; then say "there were no papers in that snapshot"; fi
exit 0
# end of restore.sh
