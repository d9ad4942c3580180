// SPDX-License-Identifier: MIT OR Apache-2.0

//! Language codes: ISO 639 has one of two letters and one or two of three letters for the same language.

/// Two letters, three letters, and for some languages the bibliographic three-letter code.
const CODES: &str = "
aa aar|ab abk|ae ave|af afr|ak aka|am amh|an arg|ar ara|as asm|av ava|ay aym|az aze|ba bak|be bel|bg bul|bi bis|bm bam|
bn ben|bo bod tib|br bre|bs bos|ca cat|ce che|ch cha|co cos|cr cre|cs ces cze|cu chu|cv chv|cy cym wel|da dan|
de deu ger|dv div|dz dzo|ee ewe|el ell gre|en eng|eo epo|es spa|et est|eu eus baq|fa fas per|ff ful|fi fin|fj fij|
fo fao|fr fra fre|fy fry|ga gle|gd gla|gl glg|gn grn|gu guj|gv glv|ha hau|he heb|hi hin|ho hmo|hr hrv|ht hat|hu hun|
hy hye arm|hz her|ia ina|id ind|ie ile|ig ibo|ii iii|ik ipk|io ido|is isl ice|it ita|iu iku|ja jpn|jv jav|ka kat geo|
kg kon|ki kik|kj kua|kk kaz|kl kal|km khm|kn kan|ko kor|kr kau|ks kas|ku kur|kv kom|kw cor|ky kir|la lat|lb ltz|lg lug|
li lim|ln lin|lo lao|lt lit|lu lub|lv lav|mg mlg|mh mah|mi mri mao|mk mkd mac|ml mal|mn mon|mr mar|ms msa may|mt mlt|
my mya bur|na nau|nb nob|nd nde|ne nep|ng ndo|nl nld dut|nn nno|no nor|nr nbl|nv nav|ny nya|oc oci|oj oji|om orm|or ori|
os oss|pa pan|pi pli|pl pol|ps pus|pt por|qu que|rm roh|rn run|ro ron rum|ru rus|rw kin|sa san|sc srd|sd snd|se sme|
sg sag|si sin|sk slk slo|sl slv|sm smo|sn sna|so som|sq sqi alb|sr srp|ss ssw|st sot|su sun|sv swe|sw swa|ta tam|te tel|
tg tgk|th tha|ti tir|tk tuk|tl tgl|tn tsn|to ton|tr tur|ts tso|tt tat|tw twi|ty tah|ug uig|uk ukr|ur urd|uz uzb|ve ven|
vi vie|vo vol|wa wln|wo wol|xh xho|yi yid|yo yor|za zha|zh zho chi|zu zul";

/// Whether `text` looks like a code: two or three letters, optionally with a hyphen and more, as in en-US.
pub fn is_code(text: &str) -> bool {
    let main = main(text);
    (2..=3).contains(&main.len()) && main.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Whether two codes are of the same language, whatever the region.
pub fn same(one: &str, other: &str) -> bool {
    shortest(one) == shortest(other)
}

/// The two-letter code of a language if it has one, else its code.
fn shortest(code: &str) -> String {
    let code = main(code).to_ascii_lowercase();
    let languages = CODES.split('|').map(|codes| codes.split_whitespace());
    let found = languages
        .filter(|codes| codes.clone().any(|one| one == code))
        .find_map(|mut codes| codes.next());
    found.map_or(code, Into::into)
}

fn main(code: &str) -> &str {
    code.split(['-', '_']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_two_and_three_letters_are_the_same() {
        for (one, other) in [
            ("en", "eng"),
            ("ger", "deu"),
            ("de", "GER"),
            ("pt-BR", "por"),
            ("haw", "haw"),
        ] {
            assert!(same(one, other) && same(other, one), "{one} {other}");
        }
        for (one, other) in [("en", "de"), ("eng", "enm"), ("haw", "ha")] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn all_codes_are_there_once() {
        let all: Vec<&str> = CODES.split('|').flat_map(str::split_whitespace).collect();
        assert!(all.iter().all(|code| is_code(code)));
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(all.len(), once.len());
        assert_eq!(CODES.split('|').count(), 183);
    }

    #[test]
    fn other_words_are_no_codes() {
        for text in ["", "1", "e", "english", "e1", "-en"] {
            assert!(!is_code(text), "{text}");
        }
    }
}
